"""Every number with a meaning. SPEC_* are set by IEC 62351-4; OUR_* are choices of this implementation.

Sizes are octets, times are seconds unless the name says otherwise.
"""

from typing import Final

# IEC 62351-4
SPEC_CERTIFICATE_MAX: Final = 8192
SPEC_CONNECT_USER_DATA_MAX: Final = 10_240
SPEC_CLOCK_SKEW: Final = 600
SPEC_REKEY_INTERVAL_MIN: Final = 15 * 60
SPEC_REKEY_INTERVAL_MAX: Final = 24 * 3600
SPEC_RSA_BITS_MIN: Final = 2048
SPEC_PORT_PLAIN: Final = 102
SPEC_PORT_TLS: Final = 3782

# SecPDU syntax
OUR_CERT_PATH_MAX: Final = 16 * 1024
OUR_CERT_PATH_COUNT: Final = 4
OUR_PATH_VERIFICATIONS: Final = 12
OUR_LIST_MAX: Final = 16
OUR_DH_SET_MAX: Final = 8
OUR_DH_PUBLIC_MAX: Final = 1024
OUR_ALGORITHM_ID_MAX: Final = 128
OUR_SIGNATURE_MAX: Final = 1024
OUR_PP_MAX: Final = 64
OUR_ATT_CERT_MAX: Final = 8192
OUR_ROLE_INFOS: Final = 16
OUR_ROLES_PER_INFO: Final = 16
OUR_ROLE_SEQUENCES: Final = 256  # per peer
OUR_NESTING_MAX: Final = 16
OUR_RSA_BITS_MAX: Final = 4096
OUR_TRANSFER_OVERHEAD: Final = 1024
OUR_MMS_PDU_MAX: Final = 65_000
OUR_SEQ_MAX: Final = 2_147_483_647
OUR_MESSAGES_PER_KEY: Final = 2**32
OUR_MESSAGES_PER_KEY_SOFT: Final = 3 * 2**30

# Association numbers, replay and flood rules
OUR_ASSO_NUMBERS: Final = 1000
OUR_ASSO_RETRIES: Final = 3
OUR_ASSO_PAIR_QUARANTINE: Final = 20 * 60
OUR_REPLAY_WINDOW: Final = 600
OUR_REPLAY_PER_PEER: Final = 20_000
OUR_REPLAY_LOCK: Final = 0.25  # for another process under the same identity, once; see fastsec.aio.replay_file
OUR_REPLAY_LOCK_AGAIN: Final = 0.001
OUR_HALF_OPEN_MAX: Final = 256
OUR_UNCONFIRMED_PER_PEER: Final = 64
OUR_UNCONFIRMED_MAX: Final = 4096
OUR_UNCONFIRMED_EVICT_AGE: Final = 5
OUR_UNCONFIRMED_TIMEOUT: Final = 60
OUR_CONFIRM_DELAY: Final = 2
OUR_CONFIRM_BURST: Final = 32
OUR_OPENING_AT_ONCE: Final = 16
OUR_SIGNER_QUEUE: Final = 256  # signatures under way and waiting at one signer with threads of its own
OUR_SIGNER_THREADS_MAX: Final = 64
OUR_REJECTS_PER_SECOND: Final = 5
OUR_REJECT_SOURCES: Final = 10_000
OUR_PARSED_ADDRESSES: Final = 64
OUR_PARSED_ADDRESS_OCTETS: Final = 256

# A-profile of 2007
OUR_A_PROFILE_TIME_AHEAD: Final = 300  # so far own times may run ahead, because one second names one association
OUR_A_PROFILE_PEERS_MAX: Final = 4096  # peers whose last own time is remembered
OUR_A_PROFILE_ALLOWED_MAX: Final = 10_000

# Timers
OUR_ACCEPT_TO_AARQ: Final = 10
OUR_AARQ_TO_AARE: Final = 30
OUR_XMPP_HANDSHAKE: Final = 60
OUR_RELEASE: Final = 10
OUR_CARRIER: Final = 60
OUR_CARRIER_XMPP: Final = 180
OUR_RECHECK_INTERVAL: Final = 24 * 3600
OUR_ABORT_LINGER: Final = 2
OUR_SIGN: Final = 10  # a signer that does not answer: plain ABRT
OUR_SIGNER_WAIT: Final = 15  # for a signer that is busy, before the signature is begun

# Revocation
OUR_REVOCATION_TIMEOUT: Final = 5  # a handshake waits for responders at most so long
OUR_REVOCATION_TIMEOUT_MAX: Final = 10  # both sides may have to ask, within OUR_AARQ_TO_AARE
OUR_REVOCATION_REST: Final = 10  # a server that does not answer is left alone, each time twice as long
OUR_REVOCATION_REST_MAX: Final = 600
OUR_REVOCATION_SERVERS: Final = 256
OUR_REVOCATION_ISSUERS: Final = 256
OUR_OCSP_CACHE: Final = 10_000
OUR_OCSP_AT_ONCE: Final = 32
OUR_OCSP_RESPONSE_MAX: Final = 64 * 1024
OUR_OCSP_SINGLES_MAX: Final = 64
OUR_OCSP_DELEGATES_MAX: Final = 4
OUR_OCSP_SKEW: Final = 300
OUR_OCSP_AGE_MAX: Final = 24 * 3600  # 62351-9: published every 24 h at least
OUR_OCSP_REUSE: Final = 300  # of an answer that does not say when the next one is due
OUR_CRL_MAX: Final = 64 * 1024 * 1024
OUR_CRL_REFRESH: Final = 24 * 3600
OUR_CRL_REFRESH_MIN: Final = 10
OUR_CRL_REFRESH_EXPIRED: Final = 60  # of a list that is out of date already
OUR_CRL_FETCH: Final = 120
OUR_CRL_POINTS: Final = 64  # distribution points that certificates have named and that are followed
OUR_CRL_FILE_POLL: Final = 10
OUR_RECHECKS_AT_ONCE: Final = 16  # associations that are looked at again per turn after a list has come
OUR_RECHECK_PAUSE: Final = 0.02

# Key update
OUR_REKEY_DISTANCE_CLIENT: Final = 60
OUR_REKEY_DISTANCE_SERVER: Final = 55
OUR_REKEY_GRACE: Final = 15 * 60
OUR_REKEYS_MAX: Final = 4096
OUR_REKEY_OUTSTANDING_MAX: Final = 24 * 3600

# OSI
OUR_CONNECT_OVERHEAD: Final = 512  # of CONNECT user data, for what surrounds the SecPDU
OUR_TPDU_SIZE_PREFERRED: Final = 65_408
OUR_TPDU_SIZE_CLASSIC: Final = 8192
OUR_TSEL_MAX: Final = 32
OUR_SELECTOR_MAX: Final = 16
OUR_CONTEXTS_MAX: Final = 16
OUR_SESSION_PARAMETERS_MAX: Final = 32
OUR_TSDU_MAX: Final = OUR_MMS_PDU_MAX + OUR_TRANSFER_OVERHEAD + 64
OUR_BATCH_BLOCK: Final = 64 * 1024  # larger ones make malloc give memory back and page-fault at every batch

# MMS services, where an access policy judges them
OUR_MMS_IDENTIFIER_MAX: Final = 129  # ObjectReference of IEC 61850-7-2
OUR_MMS_VARIABLES_MAX: Final = 2048  # in one request
OUR_ACCESS_GRANTS: Final = 64  # of one role
OUR_ACCESS_ROLES: Final = 256  # of one policy
OUR_ACCESS_VERDICTS: Final = 512  # remembered per set of roles
OUR_ACCESS_VERDICT_OCTETS: Final = 512  # longer requests are judged anew each time
OUR_ACCESS_SETS: Final = 64  # sets of roles remembered per policy
OUR_ACCESS_TOLD: Final = 10  # denials of one association written in full per minute
OUR_ACCESS_TOLD_ROUTE: Final = 60  # and of all of a route's

# asyncio adapter
OUR_SILENCE: Final = 1  # a connection that asked for nothing for so long is closed when its place is wanted
OUR_CONNECTIONS_MAX: Final = 20_000
