# Time of transfer tokens: GeneralizedTime in UTC, between its characters and milliseconds. Only inline functions.
from libc.stdint cimport int64_t, uint8_t

cdef enum:
    TIME = 19           # YYYYMMDDhhmmss.sssZ
    TIME_MAX = 25       # with nine fraction digits


# A moment as the peer wrote it: order by (digits, nanos), window by ms.
cdef struct Moment:
    int64_t digits      # YYYYMMDDhhmmss as a number
    int64_t nanos       # the fraction, padded to nine digits
    int64_t ms          # milliseconds since 1970; second 60 is the next minute's second 0


cdef inline int64_t days_before(int64_t year, int month, int day) noexcept nogil:
    """Days from 1970-01-01 to a date of the Gregorian calendar, years 0 .. 9999."""
    # Count years from March: the leap day is then the last day of a year, and 400 years have 146,097 days.
    cdef int64_t y = year + 400 - (1 if month <= 2 else 0)
    cdef int64_t m = (month + 9) % 12
    return 365 * y + y // 4 - y // 100 + y // 400 + (153 * m + 2) // 5 + day - 1 - 146097 - 719468


cdef inline int two(const uint8_t *p) noexcept nogil:
    """Two decimal digits; negative if either is none."""
    cdef int high = p[0] - 48
    cdef int low = p[1] - 48
    if high < 0 or high > 9 or low < 0 or low > 9:
        return -1
    return 10 * high + low


cdef inline bint read_time(const uint8_t *p, Py_ssize_t size, Moment *out) noexcept nogil:
    """Read a GeneralizedTime in UTC with seconds and 0 to 9 fraction digits. Returns whether it is one."""
    cdef int century, year, month, day, hour, minute, second, month_days
    cdef int64_t nanos = 0
    cdef Py_ssize_t i
    if size < 15 or size > TIME_MAX or p[size - 1] != c"Z":
        return False
    century = two(p)
    year = two(p + 2)
    month = two(p + 4)
    day = two(p + 6)
    hour = two(p + 8)
    minute = two(p + 10)
    second = two(p + 12)
    if (century | year | month | day | hour | minute | second) < 0:
        return False
    year += 100 * century
    if month < 1 or month > 12 or hour > 23 or minute > 59 or second > 60:
        return False
    if month == 2:
        month_days = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    else:
        month_days = 30 if month in (4, 6, 9, 11) else 31
    if day < 1 or day > month_days:
        return False
    if size > 15:
        # A dot or comma and at least one digit, at most nine.
        if size < 17 or (p[14] != c"." and p[14] != c","):
            return False
        for i in range(15, size - 1):
            if p[i] < 48 or p[i] > 57:
                return False
            nanos = 10 * nanos + (p[i] - 48)
        for i in range(size - 16, 9):
            nanos *= 10
    out.digits = ((((<int64_t>year * 100 + month) * 100 + day) * 100 + hour) * 100 + minute) * 100 + second
    out.nanos = nanos
    out.ms = (((days_before(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1000 + nanos // 1000000
    return True


cdef inline void put_two(uint8_t *p, int value) noexcept nogil:
    p[0] = <uint8_t>(48 + value // 10)
    p[1] = <uint8_t>(48 + value % 10)


cdef inline void write_minute(uint8_t *p, int64_t minutes) noexcept nogil:
    """The twelve digits YYYYMMDDhhmm of a minute counted from 1970."""
    cdef int64_t days = minutes // 1440
    cdef int of_day = <int>(minutes % 1440)
    cdef int64_t z = days + 719468
    cdef int64_t era = z // 146097
    cdef int doe = <int>(z - era * 146097)
    cdef int yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    cdef int doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    cdef int mp = (5 * doy + 2) // 153
    cdef int month = mp + 3 if mp < 10 else mp - 9
    cdef int year = <int>(yoe + era * 400) + (1 if month <= 2 else 0)
    put_two(p, year // 100)
    put_two(p + 2, year % 100)
    put_two(p + 4, month)
    put_two(p + 6, doy - (153 * mp + 2) // 5 + 1)
    put_two(p + 8, of_day // 60)
    put_two(p + 10, of_day % 60)


cdef inline void write_seconds(uint8_t *p, int of_minute) noexcept nogil:
    """The seven characters ss.sssZ of a millisecond of a minute."""
    cdef int ms = of_minute % 1000
    put_two(p, of_minute // 1000)
    p[2] = c"."
    p[3] = <uint8_t>(48 + ms // 100)
    put_two(p + 4, ms % 100)
    p[6] = c"Z"


cdef inline bint later(const Moment *a, const Moment *b) noexcept nogil:
    return a.digits > b.digits or (a.digits == b.digits and a.nanos > b.nanos)
