"""Public-key work on libcrypto's EVP_PKEY: signatures, and key agreement in the groups 14, 23 and 28.

Every operation that computes runs without the GIL, so that handshakes in worker threads never hold up the data of
open associations. Contexts are expensive in OpenSSL 3 (a fetch costs as much as a small message's whole protection),
so they are kept in lists of free ones: taken and given back under the GIL, used by one thread at a time.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from fastsec import limits, profile
from fastsec._core.crypto cimport EVP_MD, ERR_clear_error, OPENSSL_cleanse, Secret
from fastsec._core.crypto import LibraryError
from fastsec._core.cursor import encode_oid, tlv
from fastsec._core.cursor cimport NESTING_MAX, TLV_OK, Tlv, tlv_read
from fastsec.errors import ConfigError, DecodeError, HandshakeError, IntegrityError, LocalError

cdef enum:
    MODP = 0
    P256 = 1
    BP256 = 2
    P384 = 3
    P521 = 4
    BP384 = 5
    BP512 = 6
    GROUPS = 7
    RSA = 7
    MODP_SIZE = 256
    PREFIX_MAX = 32
    POINT_MAX = 133
    HASH_MAX = 64
    SIGNATURE_MAX = 1024
    PEM_MAX = 1 << 16

cdef struct Group:
    const char *type      # libcrypto's key type
    const char *name      # libcrypto's group name
    int bits
    int field             # octets of Z
    int size              # octets of a public value
    uint8_t prefix[PREFIX_MAX]   # what stands before the point in a SubjectPublicKeyInfo
    int prefix_size
    Slot *peers           # free keys of this group that take a peer's public value, with a verification context
    Slot *generators      # free contexts that generate

cdef Group groups[GROUPS]
cdef tuple KINDS = ("modp2048", "secp256r1", "brainpoolP256r1", "secp384r1", "secp521r1", "brainpoolP384r1",
                    "brainpoolP512r1", "rsa")
cdef tuple CURVE_OIDS = ("", "1.2.840.10045.3.1.7", "1.3.36.3.3.2.8.1.1.7", "1.3.132.0.34", "1.3.132.0.35",
                         "1.3.36.3.3.2.8.1.1.11", "1.3.36.3.3.2.8.1.1.13")
cdef dict FAMILY_OF_GROUP = {int(profile.Group.MODP_2048): MODP, int(profile.Group.SECP256R1): P256,
                             int(profile.Group.BRAINPOOL_P256R1): BP256}
# Signature algorithm: (whether RSA, index of the hash). ecdsa-with-SHA2 and shaNNNWithRSAEncryption.
cdef dict SIGNATURES = {
    profile.ECDSA_SHA256: (False, 0), "1.2.840.10045.4.3.3": (False, 1), "1.2.840.10045.4.3.4": (False, 2),
    profile.SHA256_RSA: (True, 0), "1.2.840.113549.1.1.12": (True, 1), "1.2.840.113549.1.1.13": (True, 2),
}
cdef bytes EC_PUBLIC_KEY = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"
cdef bytes RSA_ALGORITHM = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"
cdef int RSA_BITS_MIN = limits.SPEC_RSA_BITS_MIN
cdef int RSA_BITS_MAX = limits.OUR_RSA_BITS_MAX

cdef const EVP_MD *hashes[3]
cdef int hash_sizes[3]
hashes[0] = EVP_MD_fetch(NULL, b"SHA256", NULL)
hashes[1] = EVP_MD_fetch(NULL, b"SHA384", NULL)
hashes[2] = EVP_MD_fetch(NULL, b"SHA512", NULL)
hash_sizes[0], hash_sizes[1], hash_sizes[2] = 32, 48, 64
if hashes[0] is NULL or hashes[1] is NULL or hashes[2] is NULL:
    raise ImportError("libcrypto lacks SHA-2")

cdef uint8_t modp_p_minus_1[MODP_SIZE]


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
    cdef BIGNUM *p
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
    p = BN_get_rfc3526_prime_2048(NULL)
    if p is NULL or BN_bn2binpad(p, modp_p_minus_1, MODP_SIZE) != MODP_SIZE:
        BN_free(p)
        raise ImportError("libcrypto lacks the 2048-bit MODP group")
    BN_free(p)
    modp_p_minus_1[MODP_SIZE - 1] -= 1  # p is odd
    return 0


set_groups()


cdef int broken() except -1:
    ERR_clear_error()
    raise LibraryError("libcrypto failed")


cdef int bad_value(str message) except -1:
    raise HandshakeError(message, check="protocol-error", step="public value")


cdef int bad_key(str message) except -1:
    raise HandshakeError(message, check="certificate", step="subjectPublicKeyInfo")


cdef int bad_signature(str message) except -1:
    raise IntegrityError(message, check="signature")


# --- keys and contexts for one use at a time ------------------------------------------------------------------------
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
    slot.following = groups[family].generators
    groups[family].generators = slot


cdef bint put_value(EVP_PKEY *key, const uint8_t *value, int size) noexcept nogil:
    """Set the public value of a key. For EC libcrypto checks that the point is on the curve; the curves have cofactor
    1, so that is all there is to check (SEC 1 3.2.2.1). The octet 04 of the uncompressed form is the callers' to
    check."""
    return EVP_PKEY_set1_encoded_public_key(key, value, size) == 1


# --- DER ------------------------------------------------------------------------------------------------------------
cdef bint is_der(const uint8_t *p, Py_ssize_t pos, Py_ssize_t end, int depth) noexcept nogil:
    """Whether these octets are TLVs with definite lengths in as few octets as possible, on every level."""
    cdef Tlv t
    cdef Py_ssize_t size, header
    while pos < end:
        if tlv_read(p, pos, end, False, &t) != TLV_OK:
            return False
        size = t.stop - t.start
        header = 2
        if t.tag > 0xFF:
            header += 1 + (t.tag > 0xFFFF) + (t.tag > 0xFFFFFF)
        if size > 0x7F:
            while size:
                header += 1
                size >>= 8
        if t.start - pos != header:
            return False
        if p[pos] & 0x20 and (depth == 0 or not is_der(p, t.start, t.stop, depth - 1)):
            return False
        pos = t.after
    return True


def check_der(bytes der not None):
    """Check that der is one TLV whose lengths, and those of all it is constructed of, are DER; nested at most 16 deep.
    What stands inside primitive TLVs is not looked at. DecodeError (check ``protocol-error``) otherwise."""
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(der)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(der)
    cdef Tlv t
    if tlv_read(p, 0, size, False, &t) != TLV_OK or t.after != size or not is_der(p, 0, size, NESTING_MAX):
        raise DecodeError("not DER", check="protocol-error")


# --- signatures -----------------------------------------------------------------------------------------------------
cdef bint read_strict(const uint8_t *p, Py_ssize_t pos, Py_ssize_t end, int tag, Tlv *t) noexcept nogil:
    """Read a TLV with this one-octet tag in DER: the length in as few octets as possible."""
    cdef Py_ssize_t size, header = 2
    if tlv_read(p, pos, end, False, t) != TLV_OK or t.tag != <unsigned int>tag:
        return False
    size = t.stop - t.start
    if size > 0x7F:
        while size:
            header += 1
            size >>= 8
    return t.start - pos == header


cdef bint read_positive(const uint8_t *p, Py_ssize_t pos, Py_ssize_t end, Tlv *t) noexcept nogil:
    """Read a positive DER INTEGER; t.start is moved to its first octet that is not zero."""
    if not read_strict(p, pos, end, 0x02, t) or t.start == t.stop or p[t.start] & 0x80:
        return False
    if p[t.start] == 0:
        t.start += 1
        return t.start < t.stop and p[t.start] & 0x80 != 0
    return True


cdef EVP_PKEY *rsa_key(const uint8_t *p, Tlv *n, Tlv *e) noexcept nogil:
    cdef uint8_t native[1024]
    cdef int n_size = <int>(n.stop - n.start)
    cdef int e_size = <int>(e.stop - e.start)
    cdef OSSL_PARAM params[3]
    cdef EVP_PKEY *key = NULL
    cdef BIGNUM *modulus = BN_bin2bn(p + n.start, n_size, NULL)
    cdef BIGNUM *exponent = BN_bin2bn(p + e.start, e_size, NULL)
    cdef EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, b"RSA", NULL)
    if (modulus is not NULL and exponent is not NULL and ctx is not NULL
            and BN_bn2nativepad(modulus, native, n_size) == n_size
            and BN_bn2nativepad(exponent, native + n_size, e_size) == e_size):
        params[0] = OSSL_PARAM_construct_BN(b"n", native, n_size)
        params[1] = OSSL_PARAM_construct_BN(b"e", native + n_size, e_size)
        params[2] = OSSL_PARAM_construct_end()
        if EVP_PKEY_fromdata_init(ctx) == 1:
            EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params)
    EVP_PKEY_CTX_free(ctx)
    BN_free(exponent)
    BN_free(modulus)
    return key


@cython.final
cdef class PublicKey:
    """A public key that verifies signatures. Made by ``from_spki``.

    Attributes:
        kind: ``rsa``, ``secp256r1``, ``brainpoolP256r1``; for authorities also ``secp384r1``, ``secp521r1``,
            ``brainpoolP384r1``, ``brainpoolP512r1``.
        bits: of the modulus or the field.
        octets: the uncompressed point (EC) or the DER RSAPublicKey.

    Two keys are equal if they are the same key.
    """

    def __init__(self):
        raise LocalError("PublicKey has no constructor; use PublicKey.from_spki")

    def __dealloc__(self):
        EVP_PKEY_free(self.rsa)

    @staticmethod
    def from_spki(bytes der not None, *, bint ca=False):
        """From a DER SubjectPublicKeyInfo (RFC 5280, RFC 5480, RFC 3279).

        Arguments:
            der: the whole SubjectPublicKeyInfo, strictly DER, nothing after it.
            ca: whether it belongs to an authority, which may use a wider named curve.

        Raises: HandshakeError (check ``certificate``) for anything but RSA of 2048 to 4096 bits with an odd exponent
        from 3 to 2**32 - 1, or an uncompressed point on a named curve of the list.
        """
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(der)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(der)
        cdef PublicKey self = PublicKey.__new__(PublicKey)
        cdef int family, prefix
        for family in range(P256, GROUPS if ca else P384):
            prefix = groups[family].prefix_size
            if size == prefix + groups[family].size and memcmp(p, groups[family].prefix, prefix) == 0:
                self.set_point(family, der[prefix:])
                return self
        self.set_rsa(der)
        return self

    cdef int set_point(self, int family, bytes point) except -1:
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(point)
        cdef Slot *slot
        cdef bint good
        if p[0] != 4:
            bad_key("the EC point is not uncompressed")
        slot = take_peer(family)
        good = put_value(slot.key, p, groups[family].size)
        give_peer(family, slot)
        if not good:
            ERR_clear_error()
            bad_key("the EC point is not on its curve")
        self.family = family
        self.kind = KINDS[family]
        self.bits = groups[family].bits
        self.octets = point
        return 0

    cdef int set_rsa(self, bytes der) except -1:
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(der)
        cdef Py_ssize_t end = PyBytes_GET_SIZE(der)
        cdef Py_ssize_t algorithm = PyBytes_GET_SIZE(RSA_ALGORITHM)
        cdef Tlv outer, string, key, n, e
        if not (read_strict(p, 0, end, 0x30, &outer) and outer.stop == end and end - outer.start > algorithm
                and memcmp(p + outer.start, PyBytes_AS_STRING(RSA_ALGORITHM), algorithm) == 0):
            bad_key("neither an RSA key nor an EC key on an allowed named curve")
        if not (read_strict(p, outer.start + algorithm, end, 0x03, &string) and string.stop == end
                and string.stop > string.start and p[string.start] == 0
                and read_strict(p, string.start + 1, end, 0x30, &key) and key.stop == end
                and read_positive(p, key.start, end, &n) and read_positive(p, n.stop, end, &e) and e.stop == end):
            bad_key("RSA key is not DER")
        self.bits = 8 * <int>(n.stop - n.start)
        self.bits -= leading_zeros(p[n.start])
        if not RSA_BITS_MIN <= self.bits <= RSA_BITS_MAX:
            bad_key(f"RSA modulus of {self.bits} bits; {RSA_BITS_MIN} to {RSA_BITS_MAX} are allowed")
        if not p[n.stop - 1] & 1:
            bad_key("RSA modulus is even")
        if e.stop - e.start > 4 or not p[e.stop - 1] & 1 or (e.stop - e.start == 1 and p[e.start] == 1):
            bad_key("RSA exponent is not an odd number from 3 to 2**32 - 1")
        self.rsa = rsa_key(p, &n, &e)
        if self.rsa is NULL:
            broken()
        self.family = RSA
        self.kind = KINDS[RSA]
        self.octets = der[key.first:key.stop]
        return 0

    def verify(self, str sig_alg_oid not None, bytes data not None, bytes signature not None):
        """Verify a signature.

        Arguments:
            sig_alg_oid: ecdsa-with-SHA256/384/512 or sha256/384/512WithRSAEncryption (PKCS#1 v1.5), dotted.
            data: what was signed.
            signature: DER SEQUENCE { r, s }, or for RSA exactly as many octets as the modulus has.

        Raises: IntegrityError (check ``signature``) if it does not verify, the algorithm does not fit the key or is
        none of these.
        """
        cdef uint8_t hash[HASH_MAX]
        cdef const uint8_t *message = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef const uint8_t *sig = <const uint8_t *>PyBytes_AS_STRING(signature)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t sig_size = PyBytes_GET_SIZE(signature)
        cdef int md = hash_index(sig_alg_oid, self.family == RSA)
        cdef int good = 0
        cdef Slot *slot
        cdef const uint8_t *point
        cdef int point_size
        if md < 0:
            bad_signature("the signature algorithm does not fit the key")
        if self.family == RSA:
            if sig_size != (self.bits + 7) // 8:
                bad_signature("an RSA signature has the length of the modulus")
            with nogil:
                if EVP_Digest(message, size, hash, NULL, hashes[md], NULL) == 1:
                    good = verify_rsa(self.rsa, md, hash, sig, sig_size)
                if good != 1:
                    ERR_clear_error()
        else:
            point = <const uint8_t *>PyBytes_AS_STRING(self.octets)
            point_size = groups[self.family].size
            slot = take_peer(self.family)
            with nogil:
                if (EVP_Digest(message, size, hash, NULL, hashes[md], NULL) == 1
                        and put_value(slot.key, point, point_size)):
                    good = EVP_PKEY_verify(slot.ctx, sig, sig_size, hash, hash_sizes[md])
                if good != 1:
                    ERR_clear_error()
            give_peer(self.family, slot)
        if good != 1:
            bad_signature("the signature does not verify")

    def __eq__(self, other):
        if not isinstance(other, PublicKey):
            return NotImplemented
        return self.family == (<PublicKey>other).family and self.octets == (<PublicKey>other).octets

    def __hash__(self):
        return hash(self.octets)

    def __repr__(self):
        return f"<PublicKey {self.kind} of {self.bits} bits>"


cdef int leading_zeros(uint8_t octet) noexcept nogil:
    cdef int count = 0
    while count < 8 and not octet & (0x80 >> count):
        count += 1
    return count


cdef int hash_index(str sig_alg_oid, bint rsa) except -2:
    """The index of the hash of a signature algorithm for this kind of key, -1 if it has none."""
    cdef tuple entry = SIGNATURES.get(sig_alg_oid)
    if entry is None or <bint>entry[0] != rsa:
        return -1
    return entry[1]


cdef int verify_rsa(EVP_PKEY *key, int md, const uint8_t *hash, const uint8_t *sig, size_t sig_size) noexcept nogil:
    cdef int good = 0
    cdef EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL)
    if (ctx is not NULL and EVP_PKEY_verify_init(ctx) == 1
            and EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1
            and EVP_PKEY_CTX_set_signature_md(ctx, hashes[md]) == 1):
        good = EVP_PKEY_verify(ctx, sig, sig_size, hash, hash_sizes[md])
    EVP_PKEY_CTX_free(ctx)
    return good


# --- private keys ---------------------------------------------------------------------------------------------------
cdef struct Password:
    const char *octets
    int size


cdef int give_password(char *buffer, int size, int rwflag, void *user) noexcept nogil:
    """Hands libcrypto the password. Without one the answer is a failure: the default would ask on the terminal."""
    cdef Password *password = <Password *>user
    if password is NULL or password.octets is NULL or password.size > size:
        return -1
    memcpy(buffer, password.octets, password.size)
    return password.size


@cython.final
cdef class PrivateKey:
    """A software private key that signs. Made by ``from_pem`` or ``from_der``; libcrypto wipes it when it goes.

    Attributes:
        kind: ``rsa``, ``secp256r1`` or ``brainpoolP256r1``.
        public_key: the public half.
    """

    def __init__(self):
        raise LocalError("PrivateKey has no constructor; use PrivateKey.from_pem")

    def __dealloc__(self):
        cdef Slot *slot = self.free_slots
        cdef Slot *following
        while slot is not NULL:
            following = slot.following
            EVP_PKEY_CTX_free(slot.ctx)
            free(slot)
            slot = following
        EVP_PKEY_free(self.key)

    @property
    def kind(self):
        return self.public_key.kind

    @staticmethod
    def from_pem(bytes pem not None, bytes password=None):
        """From a PEM private key: PKCS#8, encrypted or not, or the traditional forms; at most 64 KiB.

        Arguments:
            pem: the file's octets; they stay with the caller and cannot be wiped.
            password: of an encrypted key, else None; at most 1024 octets.

        Raises: ConfigError if it is not a usable key: RSA of 2048 to 4096 bits, or EC on the named curves secp256r1
        or brainpoolP256r1, with a public half that fits.
        """
        cdef Password secret
        cdef BIO *bio
        cdef EVP_PKEY *key
        if not 0 < PyBytes_GET_SIZE(pem) <= PEM_MAX:
            raise ConfigError("the private key is not a PEM file of at most 64 KiB")
        secret.octets = NULL if password is None else PyBytes_AS_STRING(password)
        secret.size = 0 if password is None else <int>PyBytes_GET_SIZE(password)
        bio = BIO_new_mem_buf(PyBytes_AS_STRING(pem), <int>PyBytes_GET_SIZE(pem))
        if bio is NULL:
            raise MemoryError
        key = PEM_read_bio_PrivateKey(bio, NULL, give_password, &secret)
        BIO_free(bio)
        if key is NULL:
            ERR_clear_error()
            raise ConfigError("the private key cannot be read: not PEM, damaged, or the password is missing or wrong")
        return private_key(key)

    @staticmethod
    def from_der(bytes der not None):
        """From a DER private key, PKCS#8 (unencrypted) or traditional. Otherwise as ``from_pem``."""
        cdef const unsigned char *p = <const unsigned char *>PyBytes_AS_STRING(der)
        cdef EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &p, <long>PyBytes_GET_SIZE(der))
        if key is NULL:
            ERR_clear_error()
            raise ConfigError("the private key cannot be read: not DER or damaged")
        if p != <const unsigned char *>PyBytes_AS_STRING(der) + PyBytes_GET_SIZE(der):
            EVP_PKEY_free(key)
            raise ConfigError("the private key is followed by other octets")
        return private_key(key)

    def public_spki(self):
        """The DER SubjectPublicKeyInfo of the public half."""
        return self.spki

    def sign(self, str sig_alg_oid not None, bytes data not None):
        """Sign data. Runs without the GIL; several threads may sign with one key at once.

        Arguments:
            sig_alg_oid: as for ``PublicKey.verify``; one that does not fit the key is a LocalError.
            data: what is signed, any length.
        Returns: DER SEQUENCE { r, s }, or for RSA as many octets as the modulus has.
        """
        cdef uint8_t hash[HASH_MAX]
        cdef uint8_t out[SIGNATURE_MAX]
        cdef size_t size = SIGNATURE_MAX
        cdef const uint8_t *message = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t count = PyBytes_GET_SIZE(data)
        cdef int md = hash_index(sig_alg_oid, self.family == RSA)
        cdef bint good
        cdef Slot *slot
        if md < 0:
            raise LocalError(f"signature algorithm {sig_alg_oid} does not fit a key of kind {self.kind}")
        slot = self.take()
        with nogil:
            good = (EVP_Digest(message, count, hash, NULL, hashes[md], NULL) == 1
                    and (self.family != RSA or EVP_PKEY_CTX_set_signature_md(slot.ctx, hashes[md]) == 1)
                    and EVP_PKEY_sign(slot.ctx, out, &size, hash, hash_sizes[md]) == 1)
        slot.following = self.free_slots
        self.free_slots = slot
        if not good:
            broken()
        return PyBytes_FromStringAndSize(<char *>out, size)

    cdef Slot *take(self) except NULL:
        cdef Slot *slot = self.free_slots
        cdef EVP_PKEY_CTX *ctx
        if slot is not NULL:
            self.free_slots = slot.following
            return slot
        ctx = EVP_PKEY_CTX_new_from_pkey(NULL, self.key, NULL)
        if (ctx is NULL or EVP_PKEY_sign_init(ctx) != 1
                or (self.family == RSA and EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) != 1)):
            EVP_PKEY_CTX_free(ctx)
            broken()
        return new_slot(NULL, ctx)

    def __repr__(self):
        return f"<PrivateKey {self.kind}>"

    def __reduce__(self):
        raise LocalError("a PrivateKey is not pickled or copied")


cdef PrivateKey private_key(EVP_PKEY *key):
    """A PrivateKey that owns key, after the checks of a loaded key."""
    cdef PrivateKey self = PrivateKey.__new__(PrivateKey)
    cdef char name[64]
    cdef size_t length = 0
    cdef int explicit = 0
    cdef unsigned char *der = NULL
    cdef int size
    cdef str algorithm
    self.key = key
    if EVP_PKEY_is_a(key, b"EC"):
        # libcrypto gives explicit parameters that equal a named curve its name.
        EVP_PKEY_get_int_param(key, b"decoded-from-explicit", &explicit)
        if explicit or EVP_PKEY_get_group_name(key, name, sizeof(name), &length) != 1:
            ERR_clear_error()
            raise ConfigError("the private key is on a curve without a name; use secp256r1 or brainpoolP256r1")
        EVP_PKEY_set_utf8_string_param(key, b"point-format", b"uncompressed")
    elif not EVP_PKEY_is_a(key, b"RSA"):
        raise ConfigError("the private key is neither an RSA nor an EC key")
    size = i2d_PUBKEY(key, &der)
    if size <= 0:
        ERR_clear_error()
        raise ConfigError("the private key has no usable public half")
    self.spki = PyBytes_FromStringAndSize(<char *>der, size)
    OPENSSL_free(der)
    try:
        self.public_key = PublicKey.from_spki(self.spki)
    except HandshakeError as error:
        raise ConfigError(f"the private key is not usable: {error}") from None
    self.family = self.public_key.family
    algorithm = profile.SHA256_RSA if self.family == RSA else profile.ECDSA_SHA256
    try:
        self.public_key.verify(algorithm, b"fastsec", self.sign(algorithm, b"fastsec"))
    except (IntegrityError, LibraryError):
        raise ConfigError("the private key does not fit its public half") from None
    return self


# --- key agreement --------------------------------------------------------------------------------------------------
cdef int family_of(int group) except -1:
    family = FAMILY_OF_GROUP.get(group)
    if family is None:
        bad_value(f"group {group} is not supported")
    return family


cdef Slot *take_value(int family, bytes value) except NULL:
    """A slot with a peer's public value, after the checks of 62351-4 key agreement. HandshakeError otherwise."""
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(value)
    cdef int size = groups[family].size
    cdef Slot *slot
    cdef bint good
    if PyBytes_GET_SIZE(value) != size:
        bad_value(f"public value of {PyBytes_GET_SIZE(value)} octets, {size} expected")
    if family == MODP:
        # 2 .. p-2 is enough in a group of a safe prime.
        if memcmp(p, modp_p_minus_1, MODP_SIZE) >= 0 or is_small(p, MODP_SIZE):
            bad_value("public value outside 2 .. p-2")
    elif p[0] != 4:
        bad_value("public value is not an uncompressed point")
    slot = take_peer(family)
    good = put_value(slot.key, p, size)
    if not good:
        ERR_clear_error()
        give_peer(family, slot)
        bad_value("public value is not on the curve")
    return slot


cdef bint is_small(const uint8_t *p, int size) noexcept nogil:
    """Whether a big-endian number is 0 or 1. Constant time: it also looks at Z."""
    cdef uint8_t high = 0
    cdef int i
    for i in range(size - 1):
        high |= p[i]
    return not (high | (p[size - 1] & 0xFE))


def check_public(int group, bytes value not None):
    """Check a peer's Diffie-Hellman value: its size, range 2 .. p-2 (group 14), uncompressed and on the curve (23, 28).

    Arguments:
        group: 14, 23 or 28.
        value: 256 octets (14) or 65 (23, 28).
    Raises: HandshakeError (check ``protocol-error``).
    """
    cdef int family = family_of(group)
    give_peer(family, take_value(family, value))


@cython.final
cdef class Ephemeral:
    """A Diffie-Hellman key pair. Made by ``generate``; the private value is wiped by ``wipe`` and when it goes.

    Until the first ``derive`` libcrypto's key object is kept, afterwards only the private value (29 or 32 octets),
    which a server needs for key updates as long as the association lives.

    Attributes:
        group: 14, 23 or 28.
        public: the public value, 256 octets (14) or 65 (23, 28).
    """

    def __init__(self):
        raise LocalError("Ephemeral has no constructor; use Ephemeral.generate")

    def __dealloc__(self):
        EVP_PKEY_free(self.key)

    @staticmethod
    def generate(int group):
        """A new key pair. Runs without the GIL. LocalError for a group other than 14, 23, 28."""
        cdef Ephemeral self = Ephemeral.__new__(Ephemeral)
        cdef Slot *slot
        cdef int family
        cdef BIGNUM *scalar = NULL
        cdef unsigned char *public = NULL
        cdef size_t size = 0
        cdef int bits
        cdef bint good = False
        if group not in FAMILY_OF_GROUP:
            raise LocalError(f"group {group} is not supported; choose 14, 23 or 28")
        family = FAMILY_OF_GROUP[group]
        self.family = family
        self.group = group
        slot = take_generator(family)
        with nogil:
            if EVP_PKEY_generate(slot.ctx, &self.key) == 1:
                size = EVP_PKEY_get1_encoded_public_key(self.key, &public)
                good = EVP_PKEY_get_bn_param(self.key, b"priv", &scalar) == 1
        give_generator(family, slot)
        try:
            if not good or size != <size_t>groups[family].size:
                broken()
            # The size of the private value says nothing; a full field would cost memory in group 14.
            bits = BN_num_bits(scalar)
            self.scalar = Secret.make(groups[family].field if family != MODP else (bits + 7) // 8)
            if BN_bn2nativepad(scalar, self.scalar.p, <int>self.scalar.size) < 0:
                broken()
            self.public = PyBytes_FromStringAndSize(<char *>public, size)
        finally:
            BN_clear_free(scalar)
            OPENSSL_free(public)
        return self

    def derive(self, bytes peer_public not None):
        """The shared secret Z with a peer's public value. Runs without the GIL.

        Arguments:
            peer_public: 256 octets (group 14) or 65 (23, 28), checked as ``check_public`` does.
        Returns: Z, left padded: 256 octets (14), or the x-coordinate, 32 octets (23, 28).
        Raises: HandshakeError (check ``protocol-error``) for a bad value and for a Z of 0, 1 or p-1; LocalError once
        wiped.
        """
        cdef int family = self.family
        cdef Slot *peer
        cdef Secret z
        cdef EVP_PKEY *key
        cdef uint8_t *out
        cdef uint8_t scalar[MODP_SIZE]
        cdef int scalar_size
        cdef size_t size
        cdef bint good = False
        if self.scalar is None:
            raise LocalError("this Ephemeral has been wiped")
        peer = take_value(family, peer_public)
        try:
            z = Secret.make(groups[family].field)
            out = z.p
            size = z.size
            # The object hands its key over to this call, so that a wipe meanwhile is harmless.
            key = self.key
            self.key = NULL
            scalar_size = <int>self.scalar.size
            memcpy(scalar, self.scalar.p, scalar_size)
            with nogil:
                if key is NULL:
                    key = group_key(family, EVP_PKEY_KEYPAIR, scalar, scalar_size)
                OPENSSL_cleanse(scalar, MODP_SIZE)
                good = key is not NULL and agree(key, peer.key, family, out, size)
                EVP_PKEY_free(key)
                if not good:
                    ERR_clear_error()
        finally:
            give_peer(family, peer)
        if not good or is_small(out, <int>size) or (
                family == MODP and memcmp(out, modp_p_minus_1, MODP_SIZE) == 0):
            bad_value("the shared secret is degenerate")
        return z

    def wipe(self):
        """Forget the private value. Doing it twice is harmless."""
        EVP_PKEY_free(self.key)
        self.key = NULL
        if self.scalar is not None:
            self.scalar.wipe()
            self.scalar = None

    def __repr__(self):
        return f"<Ephemeral of group {self.group}>"

    def __reduce__(self):
        raise LocalError("an Ephemeral is not pickled or copied")


cdef bint agree(EVP_PKEY *key, EVP_PKEY *peer, int family, uint8_t *out, size_t size) noexcept nogil:
    """Z into out, which has exactly size octets. The peer's value has been checked, so libcrypto need not do it again
    (for EC its check is a second multiplication)."""
    cdef size_t count = size
    cdef EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL)
    cdef bint good = (ctx is not NULL and EVP_PKEY_derive_init(ctx) == 1
                      and (family != MODP or EVP_PKEY_CTX_set_dh_pad(ctx, 1) == 1)
                      and EVP_PKEY_derive_set_peer_ex(ctx, peer, 0) == 1
                      and EVP_PKEY_derive(ctx, out, &count) == 1
                      and count == size)
    EVP_PKEY_CTX_free(ctx)
    return good
