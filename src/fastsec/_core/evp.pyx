"""The groups of public-key work, and the keys and contexts of libcrypto that are kept for them. No Python names.

Contexts are expensive in OpenSSL 3 (a fetch costs as much as a small message's whole protection), so they are kept in
lists of free ones: taken and given back under the GIL, used by one thread at a time.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy

from fastsec._core.crypto cimport ERR_clear_error
from fastsec._core.crypto import LibraryError
from fastsec._core.cursor import encode_oid, tlv

cdef Group groups[GROUPS]
cdef tuple CURVE_OIDS = ("", "1.2.840.10045.3.1.7", "1.3.36.3.3.2.8.1.1.7", "1.3.132.0.34", "1.3.132.0.35",
                         "1.3.36.3.3.2.8.1.1.11", "1.3.36.3.3.2.8.1.1.13")
cdef bytes EC_PUBLIC_KEY = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"


cdef void set_group(int family, const char *type, const char *name, int bits, int size) noexcept:
    groups[family].type = type
    groups[family].name = name
    groups[family].bits = bits
    groups[family].field = (bits + 7) // 8
    groups[family].size = size
    groups[family].prefix_size = 0
    groups[family].peers = NULL
    groups[family].generators = NULL


cdef int set_groups() except -1:
    cdef int family, size
    set_group(MODP, b"DH", b"modp_2048", 2048, MODP_SIZE)
    set_group(P256, b"EC", b"prime256v1", 256, 65)
    set_group(BP256, b"EC", b"brainpoolP256r1", 256, 65)
    set_group(P384, b"EC", b"secp384r1", 384, 97)
    set_group(P521, b"EC", b"secp521r1", 521, 133)
    set_group(BP384, b"EC", b"brainpoolP384r1", 384, 97)
    set_group(BP512, b"EC", b"brainpoolP512r1", 512, 129)
    for family in range(P256, GROUPS):
        # A named curve and an uncompressed point leave no freedom in DER, so the prefix can be compared as a whole.
        size = groups[family].size
        algorithm = tlv(0x30, EC_PUBLIC_KEY + tlv(0x06, encode_oid(CURVE_OIDS[family])))
        prefix = tlv(0x30, algorithm + tlv(0x03, bytes(1 + size)))[:-size]
        groups[family].prefix_size = len(prefix)
        memcpy(groups[family].prefix, PyBytes_AS_STRING(prefix), len(prefix))
    return 0


set_groups()


cdef const Group *group_of(int family) noexcept nogil:
    return &groups[family]


cdef int broken() except -1:
    """Raise what a failure of libcrypto that no argument explains is worth."""
    ERR_clear_error()
    raise LibraryError("libcrypto failed")


cdef EVP_PKEY *group_key(int family, int selection, uint8_t *scalar, size_t size) noexcept nogil:
    """A key of this group with its parameters only or, if there is a scalar, that private value; NULL on failure."""
    cdef OSSL_PARAM params[3]
    cdef EVP_PKEY *key = NULL
    cdef EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, groups[family].type, NULL)
    params[0] = OSSL_PARAM_construct_utf8_string(b"group", <char *>groups[family].name, 0)
    params[1] = OSSL_PARAM_construct_BN(b"priv", scalar, size) if scalar is not NULL else OSSL_PARAM_construct_end()
    params[2] = OSSL_PARAM_construct_end()
    if ctx is not NULL and EVP_PKEY_fromdata_init(ctx) == 1:
        EVP_PKEY_fromdata(ctx, &key, selection, params)
    EVP_PKEY_CTX_free(ctx)
    return key


cdef Slot *new_slot(EVP_PKEY *key, EVP_PKEY_CTX *ctx) except NULL:
    """A slot that owns key and ctx; frees them if there is no memory."""
    cdef Slot *slot = <Slot *>malloc(sizeof(Slot))
    if slot is NULL:
        EVP_PKEY_CTX_free(ctx)
        EVP_PKEY_free(key)
        raise MemoryError
    slot.key = key
    slot.ctx = ctx
    slot.following = NULL
    return slot


cdef Slot *take_peer(int family) except NULL:
    """A slot whose key takes a public value of this group and whose context verifies with it (EC)."""
    cdef Slot *slot = groups[family].peers
    cdef EVP_PKEY *key
    cdef EVP_PKEY_CTX *ctx = NULL
    if slot is not NULL:
        groups[family].peers = slot.following
        return slot
    key = group_key(family, EVP_PKEY_KEY_PARAMETERS, NULL, 0)
    if key is NULL:
        broken()
    if family != MODP:
        ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL)
        if ctx is NULL or EVP_PKEY_verify_init(ctx) != 1:
            EVP_PKEY_CTX_free(ctx)
            EVP_PKEY_free(key)
            broken()
    return new_slot(key, ctx)


cdef void give_peer(int family, Slot *slot) noexcept:
    assert slot is not NULL and slot is not groups[family].peers, "a slot given back twice"
    slot.following = groups[family].peers
    groups[family].peers = slot


cdef Slot *take_generator(int family) except NULL:
    cdef Slot *slot = groups[family].generators
    cdef EVP_PKEY_CTX *ctx
    cdef OSSL_PARAM params[2]
    if slot is not NULL:
        groups[family].generators = slot.following
        return slot
    ctx = EVP_PKEY_CTX_new_from_name(NULL, groups[family].type, NULL)
    params[0] = OSSL_PARAM_construct_utf8_string(b"group", <char *>groups[family].name, 0)
    params[1] = OSSL_PARAM_construct_end()
    if ctx is NULL or EVP_PKEY_keygen_init(ctx) != 1 or EVP_PKEY_CTX_set_params(ctx, params) != 1:
        EVP_PKEY_CTX_free(ctx)
        broken()
    return new_slot(NULL, ctx)


cdef void give_generator(int family, Slot *slot) noexcept:
    assert slot is not NULL and slot is not groups[family].generators, "a slot given back twice"
    slot.following = groups[family].generators
    groups[family].generators = slot


cdef bint put_value(EVP_PKEY *key, const uint8_t *value, int size) noexcept nogil:
    """Set the public value of a key. For EC libcrypto checks that the point is on the curve; the curves have cofactor
    1, so that is all there is to check (SEC 1 3.2.2.1). The octet 04 of the uncompressed form is the callers' to
    check."""
    return EVP_PKEY_set1_encoded_public_key(key, value, size) == 1
