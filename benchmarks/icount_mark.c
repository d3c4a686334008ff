/* Marks for callgrind, to be called from Python by ctypes: what is between on() and off() is counted. */
#include <valgrind/callgrind.h>

void icount_on(void)
{
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

void icount_off(const char *name)
{
    CALLGRIND_DUMP_STATS_AT(name);
    CALLGRIND_STOP_INSTRUMENTATION;
}

int icount_under_valgrind(void)
{
    return (int)RUNNING_ON_VALGRIND;
}
