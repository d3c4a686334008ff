"""The SecPDUs of IEC 62351-4: one field table (``fields``), the values (``model``) and the DER codec (``der``)."""
