"""Every call of libcrypto and malloc that our compiled code makes may fail: then nothing is accepted or sent, nothing
crashes, no error is left in libcrypto's queue, and the next try works.

A shim that is loaded before libcrypto makes the n-th call of our modules fail, for every n, in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

# Functions that answer 0 or NULL when they fail, of at most six integer or pointer arguments.
ZERO = """
EVP_Digest EVP_DigestInit_ex2 EVP_DigestUpdate EVP_DigestFinal_ex EVP_MD_CTX_copy_ex EVP_MD_CTX_new
EVP_CIPHER_CTX_new EVP_CipherInit_ex2 EVP_CipherUpdate EVP_EncryptInit_ex2 EVP_EncryptUpdate EVP_EncryptFinal_ex
EVP_DecryptInit_ex2 EVP_DecryptUpdate EVP_DecryptFinal_ex EVP_CIPHER_CTX_get_params RAND_bytes BN_bin2bn
EVP_PKEY_CTX_new_from_name EVP_PKEY_CTX_new_from_pkey EVP_PKEY_fromdata_init EVP_PKEY_fromdata EVP_PKEY_verify_init
EVP_PKEY_verify EVP_PKEY_keygen_init EVP_PKEY_CTX_set_params EVP_PKEY_generate EVP_PKEY_get1_encoded_public_key
EVP_PKEY_get_bn_param EVP_PKEY_derive_init EVP_PKEY_CTX_set_dh_pad EVP_PKEY_derive_set_peer_ex EVP_PKEY_derive
EVP_PKEY_CTX_set_rsa_padding EVP_PKEY_CTX_set_signature_md EVP_PKEY_sign_init EVP_PKEY_sign BIO_new_mem_buf
PEM_read_bio_PrivateKey i2d_PUBKEY EVP_PKEY_get_group_name EVP_PKEY_set1_encoded_public_key
"""
MINUS_ONE = ["BN_bn2nativepad"]
MEMORY = ["malloc", "realloc", "calloc"]

SHIM = (
    r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

static long left = 0; /* calls until the one that fails; 0: none does */

/* Sets it and says what was left. */
long failing_arm(long number) { long before = left; left = number; return before; }

/* Whether the caller is one of our modules; remembered by page, because looking it up takes long. */
static int ours(void *caller)
{
    static struct { size_t page; int ours; } known[1024];
    size_t page = (size_t)caller >> 12;
    Dl_info info;
    if (known[page % 1024].page != page) {
        known[page % 1024].ours = dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "/fastsec/_core/");
        known[page % 1024].page = page;
    }
    return known[page % 1024].ours;
}

static int fails(void *caller) { return left != 0 && ours(caller) && --left == 0; }

#define SHIM(name, failure) \
    long name(long a, long b, long c, long d, long e, long f) \
    { \
        static long (*real)(long, long, long, long, long, long); \
        if (real == NULL) \
            real = (long (*)(long, long, long, long, long, long))dlsym(dlopen("libcrypto.so.3", RTLD_LAZY), #name); \
        return fails(__builtin_return_address(0)) ? failure : real(a, b, c, d, e, f); \
    }

/* dlsym itself needs memory, so glibc's own names are called. */
#define MEMORY(name) \
    void *__libc_##name(size_t a, size_t b); \
    void *name(size_t a, size_t b) { return fails(__builtin_return_address(0)) ? NULL : __libc_##name(a, b); }
"""
    + "\n".join(f"SHIM({name}, 0)" for name in ZERO.split())
    + "\n".join(f"\nSHIM({name}, -1)" for name in MINUS_ONE)
    + "".join(f"\nMEMORY({name})" for name in MEMORY)
    + "\n"
)

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None or "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="needs a C compiler; AddressSanitizer has to be loaded first",
)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("failing")
    (folder / "shim.c").write_text(SHIM)
    library = folder / "shim.so"
    flags = ["-O1", "-fPIC", "-shared", "-fno-builtin", "-w"]
    subprocess.run(["cc", *flags, "-o", str(library), str(folder / "shim.c"), "-ldl"], check=True)
    return library


# Operations of failing.py, and how many failures each has at least.
KINDS = ("hmac", "gmac128-16", "cbc128-hmac", "cbc256-gmac128-13", "gcm128-16")
GROUPS = {
    "hashes": {"sha256": 1, "hmac": 14, "hmac, long key": 15, "hkdf": 30, "random": 1, "secret": 1},
    "ciphers": {"gcm seal": 6, "gcm open": 6, "cbc": 3},
    "memory": {"writer": 1, "components": 1, "channel in pieces": 6, "channel in small TPDUs": 6},
    "agreement": {"agreement 14": 15, "agreement 23": 15, "agreement 28": 15},
    "rsa": {"sign rsa": 15, "sign rsa again": 5},
    "ec": {"sign ec": 15, "sign ec again": 5},
    **{kind: {f"guards {kind}": 9, f"sealing {kind}": 4, f"opening {kind}": 3, f"channel {kind}": 7} for kind in KINDS},
}


@pytest.mark.parametrize("group", GROUPS)
def test_every_failure_is_refused_and_leaves_nothing(shim: Path, group: str) -> None:
    environment = {
        **os.environ,
        "LD_PRELOAD": str(shim),
        "FAILING": str(shim),
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "failing.py"), *GROUPS[group]],
        env=environment, capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {
        name: (int(first), int(again)) for name, first, again in (x.split("|") for x in done.stdout.split("\n")[:-1])
    }
    for name, least in GROUPS[group].items():
        first, again = counts[name]
        assert first >= 1, name
        assert again >= least, f"{name}: the shim does not reach these calls"
