"""Gives away private values in a masked form, so that a search of memory cannot find the searcher's own copy."""

from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from fastsec._core.crypto cimport OPENSSL_cleanse, Secret
from fastsec._core.dh cimport Ephemeral
from fastsec._core.evp cimport BIGNUM, BN_bn2binpad, BN_clear_free, EVP_PKEY_get_bn_param
from fastsec._core.pk cimport PrivateKey

MASK = 0xA5


cdef bytes masked(const uint8_t *p, Py_ssize_t size):
    cdef bytes out = PyBytes_FromStringAndSize(NULL, size)
    cdef uint8_t *q = <uint8_t *>PyBytes_AS_STRING(out)
    cdef Py_ssize_t i
    for i in range(size):
        q[i] = p[i] ^ 0xA5
    return out


def of_secret(Secret secret not None) -> bytes:
    """The octets of a Secret, masked."""
    return masked(secret.p, secret.size)


def of_ephemeral(Ephemeral key not None) -> bytes:
    """The private value in native (little-endian) order, masked."""
    return masked(key.scalar.p, key.scalar.size)


def of_private_key(PrivateKey key not None, bytes name not None) -> bytes:
    """A number of a private key (``priv``, ``d``, ``rsa-factor1``), big-endian, masked."""
    cdef BIGNUM *number = NULL
    cdef uint8_t octets[512]
    cdef int size = 32 if name == b"priv" else 128 if name == b"rsa-factor1" else 256
    cdef bytes out
    if EVP_PKEY_get_bn_param(key.key, PyBytes_AS_STRING(name), &number) != 1 or BN_bn2binpad(number, octets, size) < 0:
        raise ValueError(name)
    out = masked(octets, size)
    OPENSSL_cleanse(octets, 512)
    BN_clear_free(number)
    return out


def count(bytes octets not None, list patterns not None) -> dict[int, int]:
    """How often each pattern, given masked and of at least two octets, occurs: index to count, without zeros."""
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(octets)
    cdef Py_ssize_t size = len(octets)
    cdef int many = len(patterns)
    cdef Py_ssize_t at, i
    cdef int one
    cdef const uint8_t *pattern
    # Heads of chains of patterns by their first two octets: one look per octet, and no octet is ever unmasked.
    cdef int *heads = <int *>malloc(65536 * sizeof(int))
    cdef int *following = <int *>malloc((many + 1) * sizeof(int))
    cdef const uint8_t **starts = <const uint8_t **>malloc((many + 1) * sizeof(uint8_t *))
    cdef Py_ssize_t *sizes = <Py_ssize_t *>malloc((many + 1) * sizeof(Py_ssize_t))
    cdef dict found = {}
    for i in range(65536):
        heads[i] = -1
    for one in range(many):
        starts[one] = <const uint8_t *>PyBytes_AS_STRING(<bytes>patterns[one])
        sizes[one] = len(<bytes>patterns[one])
        i = starts[one][0] << 8 | starts[one][1]
        following[one] = heads[i]
        heads[i] = one
    for at in range(size - 1):
        one = heads[(p[at] ^ 0xA5) << 8 | (p[at + 1] ^ 0xA5)]
        while one >= 0:
            if sizes[one] <= size - at:
                pattern = starts[one]
                i = 2
                while i < sizes[one] and (p[at + i] ^ 0xA5) == pattern[i]:
                    i += 1
                if i == sizes[one]:
                    found[one] = found.get(one, 0) + 1
            one = following[one]
    free(heads)
    free(following)
    free(starts)
    free(sizes)
    return found
