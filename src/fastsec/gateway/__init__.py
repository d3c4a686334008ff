"""The gateway: end-to-end security for MMS clients and servers that know nothing of it."""
