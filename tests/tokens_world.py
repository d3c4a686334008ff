"""A directory of SoftHSM tokens for this process, and a module in between that counts, hangs and fails as told."""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PIN, SO_PIN = "271828", "314159"
PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/arm-linux-gnueabihf/softhsm/libsofthsm2.so",
)

# The function list is the version, padded to a pointer, and then the functions in the order of PKCS#11 v2.40, 5.1.
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <unistd.h>
typedef unsigned long RV;
enum { INITIALIZE = 1, TOKEN_INFO = 7, OPEN = 13, CLOSE = 14, LOGIN = 19, SIGN = 44, FUNCTIONS = 69 };
static void *real[FUNCTIONS], *mine[FUNCTIONS];
volatile long inits, init_flags, sessions, logins, signatures, in_sign;
volatile long hang, fail_sign, fail_count, fail_login, fail_open, more_flags, no_locks;

static RV initialize(void **args) {
    if (no_locks && args) return 0x0a;
    inits++;
    init_flags = args ? (long)args[4] : -1;
    return ((RV (*)(void **))real[INITIALIZE])(args);
}
static RV token_info(RV slot, unsigned char *info) {
    RV result = ((RV (*)(RV, unsigned char *))real[TOKEN_INFO])(slot, info);
    unsigned long flags;
    memcpy(&flags, info + 96, sizeof flags);
    flags |= more_flags;
    memcpy(info + 96, &flags, sizeof flags);
    return result;
}
static RV open_session(RV slot, RV flags, void *a, void *b, RV *handle) {
    if (fail_open) return fail_open;
    RV result = ((RV (*)(RV, RV, void *, void *, RV *))real[OPEN])(slot, flags, a, b, handle);
    if (!result) __atomic_add_fetch(&sessions, 1, __ATOMIC_SEQ_CST);
    return result;
}
static RV close_session(RV handle) {
    RV result = ((RV (*)(RV))real[CLOSE])(handle);
    if (!result) __atomic_sub_fetch(&sessions, 1, __ATOMIC_SEQ_CST);
    return result;
}
static RV login(RV handle, RV user, unsigned char *pin, RV length) {
    __atomic_add_fetch(&logins, 1, __ATOMIC_SEQ_CST);
    if (fail_login) return fail_login;
    return ((RV (*)(RV, RV, unsigned char *, RV))real[LOGIN])(handle, user, pin, length);
}
static RV sign(RV handle, void *data, RV length, void *signature, RV *size) {
    __atomic_add_fetch(&in_sign, 1, __ATOMIC_SEQ_CST);
    while (hang) usleep(1000);
    __atomic_sub_fetch(&in_sign, 1, __ATOMIC_SEQ_CST);
    RV result = ((RV (*)(RV, void *, RV, void *, RV *))real[SIGN])(handle, data, length, signature, size);
    if (fail_count && signature) { fail_count--; return fail_sign; }
    if (signature) __atomic_add_fetch(&signatures, 1, __ATOMIC_SEQ_CST);
    return result;
}
RV C_GetFunctionList(void **list) {
    if (!mine[0]) {
        void **from, *library = dlopen(SOFTHSM, RTLD_NOW | RTLD_LOCAL);
        if (!library || ((RV (*)(void **))dlsym(library, "C_GetFunctionList"))((void **)&from)) return 5;
        memcpy(real, from, sizeof real);
        memcpy(mine, from, sizeof mine);
        mine[INITIALIZE] = (void *)initialize; mine[TOKEN_INFO] = (void *)token_info; mine[OPEN] = (void *)open_session;
        mine[CLOSE] = (void *)close_session; mine[LOGIN] = (void *)login; mine[SIGN] = (void *)sign;
    }
    *list = mine;
    return 0;
}
"""


@cache
def module() -> str:
    """Path of SoftHSM."""
    found = [path for path in PLACES if os.path.exists(path)]
    assert found, "softhsm2 is not installed (scripts/system-packages.sh test)"
    return found[0]


PUT_CERTIFICATE = """
import sys, pkcs11
from pkcs11 import Attribute, CertificateType, ObjectClass
token = pkcs11.lib(sys.argv[1]).get_token(token_label=sys.argv[2])
with token.open(rw=True, user_pin=sys.argv[3]) as session:
    session.create_object({
        Attribute.CLASS: ObjectClass.CERTIFICATE, Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
        Attribute.TOKEN: True,
        Attribute.ID: bytes.fromhex(sys.argv[4]), Attribute.SUBJECT: b"x", Attribute.VALUE: sys.stdin.buffer.read(),
    })
"""


class Tokens:
    """Tokens in a directory of their own, and the module through which this process uses them.

    SoftHSM reads configuration and directory when it is initialized, so there is one of these per process, and its
    tokens (``one``, ``two``, ``spare``) are made before; keys can come any time.

    Attributes:
        path: of the module in between.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tokens").mkdir()
        conf = folder / "softhsm2.conf"
        conf.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(conf)
        source = folder / "between.c"
        source.write_text(f'#define SOFTHSM "{module()}"\n{SOURCE}')
        self.path = str(folder / "between.so")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", self.path, str(source), "-ldl"], check=True)
        self._library = ctypes.CDLL(self.path)
        for token in ("one", "two", "spare"):
            self._run("--init-token", "--free", "--label", token, "--pin", PIN, "--so-pin", SO_PIN)

    def get(self, name: str) -> int:
        """A number of the module in between."""
        return ctypes.c_long.in_dll(self._library, name).value

    def set(self, **values: int) -> None:
        """Tell the module in between what to do."""
        for name, value in values.items():
            ctypes.c_long.in_dll(self._library, name).value = value

    def quiet(self) -> None:
        """Do what SoftHSM does."""
        self.set(hang=0, fail_sign=0, fail_count=0, fail_login=0, fail_open=0, more_flags=0, no_locks=0)

    def put(self, token: str, label: str, identifier: str, key_pem: bytes) -> None:
        """Put a key pair into a token."""
        file = self.folder / "import.pem"
        file.write_bytes(_pkcs8(key_pem))
        self._run("--import", str(file), "--token", token, "--label", label, "--id", identifier, "--pin", PIN)
        file.unlink()

    def put_certificate(self, token: str, identifier: str, der: bytes) -> None:
        """Put a certificate into a token."""
        words = [sys.executable, "-c", PUT_CERTIFICATE, module(), token, PIN, identifier]
        subprocess.run(words, input=der, check=True)

    def _run(self, *words: str) -> None:
        done = subprocess.run(["softhsm2-util", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def uri(self, token: str, label: str | None = None, *, more: str = "", query: str = "") -> str:
        """A URI for a key, with the PIN's place left open."""
        chosen = f";object={label}" if label is not None else ""
        return f"pkcs11:token={token}{chosen}{more}?module-path={self.path}{query}"


@cache
def tokens() -> Tokens:
    """Those of this process."""
    folder = Path(tempfile.mkdtemp(prefix="fastsec-tokens-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Tokens(folder)


def _pkcs8(pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_key(kind: str) -> bytes:
    """A private key as PEM: ``rsa2048``, ``secp256r1`` and so on."""
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    if kind.startswith("rsa"):
        key = rsa.generate_private_key(65537, int(kind[3:]))
    else:
        curves = {"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1(), "brainpoolP256r1": ec.BrainpoolP256R1()}
        key = ec.generate_private_key(curves[kind])
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
