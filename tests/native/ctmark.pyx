"""Client requests to valgrind's memcheck that use it as a tracer of secrets: what is "undefined" is secret.

Whatever branches or addresses memory on a secret is then an error that memcheck reports with its frames. Two points
make secrets public, and nothing else does:

- the verdict: the result of CRYPTO_memcmp, through which every comparison of an ICV goes, here and in libcrypto;
- the plaintext, once a verdict since ``message`` was good. Before that it stays secret, so that looking at padding or
  at a tag of what was decrypted is an error.

The secret that EVP_PKEY_derive gives is marked as one. Without valgrind all this does nothing.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from fastsec._core.crypto cimport Secret

cdef extern from *:
    """
    #include <stddef.h>
    #include <valgrind/valgrind.h>
    #include <valgrind/memcheck.h>

    static int good, keep_verdict;
    static struct { void *ctx; void *out; int size; } last;

    __attribute__((used, visibility("default")))
    int I_WRAP_SONAME_FNNAME_ZU(libcryptoZdsoZa, CRYPTO_memcmp)(const void *a, const void *b, size_t size)
    {
        OrigFn original;
        int differs, value;
        VALGRIND_GET_ORIG_FN(original);
        CALL_FN_W_WWW(differs, original, a, b, size);
        value = differs;
        VALGRIND_MAKE_MEM_DEFINED(&value, sizeof(value));
        if (value == 0)
            good = 1;
        return keep_verdict ? differs : value;
    }

    __attribute__((used, visibility("default")))
    int I_WRAP_SONAME_FNNAME_ZU(libcryptoZdsoZa, EVP_DecryptUpdate)(void *ctx, void *out, int *count, void *in, int size)
    {
        OrigFn original;
        int done;
        VALGRIND_GET_ORIG_FN(original);
        CALL_FN_W_5W(done, original, ctx, out, count, in, size);
        if (out != NULL) {
            last.ctx = ctx;
            last.out = out;
            last.size = *count;
            if (good)
                VALGRIND_MAKE_MEM_DEFINED(out, *count);
        }
        return done;
    }

    __attribute__((used, visibility("default")))
    int I_WRAP_SONAME_FNNAME_ZU(libcryptoZdsoZa, EVP_DecryptFinal_ex)(void *ctx, void *out, int *count)
    {
        OrigFn original;
        int done;
        VALGRIND_GET_ORIG_FN(original);
        CALL_FN_W_WWW(done, original, ctx, out, count);
        if (good && last.ctx == ctx)
            VALGRIND_MAKE_MEM_DEFINED(last.out, last.size);
        return done;
    }

    __attribute__((used, visibility("default")))
    int I_WRAP_SONAME_FNNAME_ZU(libcryptoZdsoZa, EVP_PKEY_derive)(void *ctx, void *out, size_t *size)
    {
        OrigFn original;
        int done;
        VALGRIND_GET_ORIG_FN(original);
        CALL_FN_W_WWW(done, original, ctx, out, size);
        if (out != NULL)
            VALGRIND_MAKE_MEM_UNDEFINED(out, *size);
        return done;
    }

    static void message(void) { good = 0; last.ctx = NULL; }
    static void keep(int yes) { keep_verdict = yes; }
    static void mark(const void *p, size_t size, int secret)
    {
        if (secret)
            VALGRIND_MAKE_MEM_UNDEFINED(p, size);
        else
            VALGRIND_MAKE_MEM_DEFINED(p, size);
    }
    static unsigned errors_so_far(void) { return VALGRIND_COUNT_ERRORS; }
    static int traced(void) { return RUNNING_ON_VALGRIND; }
    static void leak_counts(int full, unsigned long *n)
    {
        if (full)
            VALGRIND_DO_ADDED_LEAK_CHECK; /* writes the records that have grown since the last search */
        else
            VALGRIND_DO_LEAK_CHECK;
        VALGRIND_COUNT_LEAK_BLOCKS(n[0], n[1], n[2], n[3]);
    }
    static void write_line(const char *text) { VALGRIND_PRINTF("%s", text); }
    """
    void c_message "message"()
    void c_keep "keep"(bint yes)
    void c_mark "mark"(const void *p, size_t size, bint secret)
    unsigned int errors_so_far()
    bint traced()
    void leak_counts(bint full, unsigned long *n)
    void write_line(const char *text)


def running() -> bool:
    """Whether valgrind runs this process."""
    return traced()


def secret(what) -> None:
    """From now on the octets of a Secret or of bytes are secret."""
    _mark(what, True)


def public(what) -> None:
    """From now on they are not."""
    _mark(what, False)


cdef int _mark(what, bint hidden) except -1:
    if isinstance(what, Secret):
        c_mark((<Secret>what).p, (<Secret>what).size, hidden)
    else:
        c_mark(PyBytes_AS_STRING(what), PyBytes_GET_SIZE(what), hidden)
    return 0


def message() -> None:
    """A new message: no verdict has been given."""
    c_message()


def keep_verdict(bint yes) -> None:
    """Control: the verdict stays secret, so that the branch on it is reported."""
    c_keep(yes)


def errors() -> int:
    """Errors that memcheck has reported so far."""
    return errors_so_far()


def note(str text) -> None:
    """A line in memcheck's log."""
    write_line(text.encode() + b"\n")


def blocks(bint full=False) -> tuple[int, int, int, int]:
    """Blocks of malloc that are lost (definitely and indirectly), dubious (possibly), reachable, suppressed."""
    cdef unsigned long n[4]
    leak_counts(full, n)
    return n[0], n[1], n[2], n[3]
