"""Key agreement in the groups 14 (MODP 2048), 23 (secp256r1) and 28 (brainpoolP256r1) on libcrypto's EVP_PKEY.

Every operation that computes runs without the GIL. The checks of public values and of Z are those of 62351-4, key
agreement; libcrypto's own are left out where they repeat them.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy

from fastsec import profile
from fastsec._core.crypto cimport CRYPTO_memcmp, ERR_clear_error, OPENSSL_cleanse, Secret
from fastsec._core.evp cimport (
    BIGNUM,
    BN_bn2binpad,
    BN_bn2nativepad,
    BN_clear_free,
    BN_free,
    BN_num_bits,
    BP256,
    EVP_PKEY,
    EVP_PKEY_CTX,
    EVP_PKEY_CTX_free,
    EVP_PKEY_CTX_new_from_pkey,
    EVP_PKEY_KEYPAIR,
    EVP_PKEY_free,
    EVP_PKEY_get_bn_param,
    MODP,
    MODP_SIZE,
    OPENSSL_free,
    P256,
    Slot,
    broken,
    give_generator,
    give_peer,
    group_key,
    group_of,
    put_value,
    take_generator,
    take_peer,
)
from fastsec.errors import HandshakeError, LocalError

cdef dict FAMILY_OF_GROUP = {int(profile.Group.MODP_2048): MODP, int(profile.Group.SECP256R1): P256,
                             int(profile.Group.BRAINPOOL_P256R1): BP256}
cdef uint8_t modp_p_minus_1[MODP_SIZE]
cdef uint8_t zeros[MODP_SIZE]


cdef int set_prime() except -1:
    cdef BIGNUM *p = BN_get_rfc3526_prime_2048(NULL)
    if p is NULL or BN_bn2binpad(p, modp_p_minus_1, MODP_SIZE) != MODP_SIZE:
        BN_free(p)
        raise ImportError("libcrypto lacks the 2048-bit MODP group")
    BN_free(p)
    modp_p_minus_1[MODP_SIZE - 1] -= 1  # p is odd
    return 0


set_prime()


cdef int bad_value(str message) except -1:
    raise HandshakeError(message, check="protocol-error", step="public value")


cdef int family_of(int group) except -1:
    family = FAMILY_OF_GROUP.get(group)
    if family is None:
        bad_value(f"group {group} is not supported")
    return family


cdef Slot *take_value(int family, bytes value) except NULL:
    """A slot with a peer's public value, after the checks of 62351-4 key agreement. HandshakeError otherwise."""
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(value)
    cdef int size = group_of(family).size
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
    """Whether a big-endian number is 0 or 1. Constant time for all others: it also looks at Z."""
    return CRYPTO_memcmp(p, zeros, size - 1) == 0 and p[size - 1] <= 1


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
            if not good or size != <size_t>group_of(family).size:
                broken()
            # The size of the private value says nothing; a full field would cost memory in group 14.
            bits = BN_num_bits(scalar)
            self.scalar = Secret.make(group_of(family).field if family != MODP else (bits + 7) // 8)
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
            z = Secret.make(group_of(family).field)
            out = z.p
            size = z.size
            assert self.scalar.size <= MODP_SIZE, "a private value longer than its buffer"
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
                family == MODP and CRYPTO_memcmp(out, modp_p_minus_1, MODP_SIZE) == 0):
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
