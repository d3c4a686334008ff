"""Signatures: public and private keys on libcrypto's EVP_PKEY, and what parsers of certificates and CRLs share.

Every operation that computes runs without the GIL, so that handshakes in worker threads never hold up the data of
open associations. An EC key is kept as its octets and lent a context of its curve for each verification.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

from fastsec import limits, profile
from fastsec._core.crypto cimport EVP_MD, ERR_clear_error
from fastsec._core.crypto import LibraryError
from fastsec._core.cursor cimport NESTING_MAX, TLV_OK, Reader, Tlv, tlv_read
# Key agreement is public-key work too, and is found here.
from fastsec._core.dh import Ephemeral, check_public
from fastsec._core.evp cimport (
    BIGNUM,
    BN_bin2bn,
    BN_bn2nativepad,
    BN_free,
    EVP_PKEY,
    EVP_PKEY_CTX,
    EVP_PKEY_CTX_free,
    EVP_PKEY_CTX_new_from_name,
    EVP_PKEY_CTX_new_from_pkey,
    EVP_PKEY_PUBLIC_KEY,
    EVP_PKEY_free,
    EVP_PKEY_fromdata,
    EVP_PKEY_fromdata_init,
    EVP_PKEY_verify,
    EVP_PKEY_verify_init,
    GROUPS,
    OPENSSL_free,
    OSSL_PARAM,
    OSSL_PARAM_construct_BN,
    OSSL_PARAM_construct_end,
    P256,
    P384,
    RSA,
    Slot,
    broken,
    give_peer,
    group_of,
    new_slot,
    put_value,
    take_peer,
)
from fastsec._core.moment cimport Moment
from fastsec._core.moment cimport read_time as read_moment
from fastsec.errors import ConfigError, DecodeError, HandshakeError, IntegrityError, LocalError

cdef enum:
    HASH_MAX = 64
    SIGNATURE_MAX = 1024
    PEM_MAX = 1 << 16

cdef tuple KINDS = ("modp2048", "secp256r1", "brainpoolP256r1", "secp384r1", "secp521r1", "brainpoolP384r1",
                    "brainpoolP512r1", "rsa")
# Signature algorithm: (whether RSA, index of the hash). ecdsa-with-SHA2 and shaNNNWithRSAEncryption.
cdef dict SIGNATURES = {
    profile.ECDSA_SHA256: (False, 0), "1.2.840.10045.4.3.3": (False, 1), "1.2.840.10045.4.3.4": (False, 2),
    profile.SHA256_RSA: (True, 0), "1.2.840.113549.1.1.12": (True, 1), "1.2.840.113549.1.1.13": (True, 2),
}
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


cdef int bad_key(str message) except -1:
    raise HandshakeError(message, check="certificate", step="subjectPublicKeyInfo")


cdef int bad_signature(str message) except -1:
    raise IntegrityError(message, check="signature")


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


cdef int bad_certificate(str message, str step) except -1:
    raise HandshakeError(message, check="certificate", step=step)


def read_extension(Reader extensions not None):
    """The next Extension of a certificate or CRL (RFC 5280 4.1): (its OID, whether it is critical, a Reader over its
    value, which is DER). DecodeError or HandshakeError (check ``certificate``) otherwise."""
    cdef Reader fields, value
    cdef bint critical
    extensions.need(0x30)
    fields = Reader.__new__(Reader)
    fields.place(extensions.data, extensions.t.start, extensions.t.stop, False, extensions.step)
    oid = fields.oid()
    critical = fields.peek() == 0x01
    if critical:
        fields.need(0x01)
        if fields.t.stop - fields.t.start != 1 or fields.p[fields.t.start] != 0xFF:
            bad_certificate("critical is not DER", "extensions")
    fields.need(0x04)
    check_der(fields.cut(fields.t.start, fields.t.stop))
    value = Reader.__new__(Reader)
    value.place(fields.data, fields.t.start, fields.t.stop, False, "extensions")
    fields.finish()
    return oid, critical, value


def read_time(Reader reader not None):
    """The next Time (RFC 5280 4.1.2.5), whole seconds in UTC, as ms since 1970 UTC. DecodeError or HandshakeError
    (check ``certificate``) if it is none of the two forms or does not exist."""
    cdef uint8_t text[15]
    cdef Py_ssize_t size, i
    cdef int century = 0
    cdef Moment moment
    if reader.peek() == 0x17:
        reader.need_octets(0x17, 13)
        century = 2
    else:
        reader.need_octets(0x18, 15)
    moment.ms = moment.digits = 0
    size = reader.t.stop - reader.t.start
    if size + century != 15:
        bad_certificate("time is not of the form YYMMDDhhmmssZ or YYYYMMDDhhmmssZ", "time")
    memcpy(text + century, reader.p + reader.t.start, size)
    if century:
        memcpy(text, b"19" if text[2] >= c"5" else b"20", 2)
    for i in range(14):
        if not c"0" <= text[i] <= c"9":
            bad_certificate("time is not of the form YYMMDDhhmmssZ or YYYYMMDDhhmmssZ", "time")
    if text[14] != c"Z":
        bad_certificate("time is not of the form YYMMDDhhmmssZ or YYYYMMDDhhmmssZ", "time")
    # Other than in a SecPDU there is neither a leap second nor a year 0 here.
    if not read_moment(text, 15, &moment) or text[12] == c"6" or moment.digits < 10000000000:
        bad_certificate("time does not exist", "time")
    return moment.ms


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
            prefix = group_of(family).prefix_size
            if size == prefix + group_of(family).size and memcmp(p, group_of(family).prefix, prefix) == 0:
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
        good = put_value(slot.key, p, group_of(family).size)
        give_peer(family, slot)
        if not good:
            ERR_clear_error()
            bad_key("the EC point is not on its curve")
        self.family = family
        self.kind = KINDS[family]
        self.bits = group_of(family).bits
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
            point_size = group_of(self.family).size
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
