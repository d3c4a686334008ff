-- SecPDUs of IEC 62351-4 (end-to-end application security, native mode) for Wireshark and tshark 4.0 and newer.
--
-- Works within Wireshark's own OSI stack: it is called for the abstract syntax e2eSecurityAS, wherever that was
-- negotiated in the presentation layer, so reassembly over TCP segments and COTP TPDUs is Wireshark's.
--   tshark -X lua_script:fastsec.lua -r FILE         (the path: fastsec inspect --lua)
-- Nothing is decrypted and no signature verified here; `fastsec inspect` does both.
-- Where a capture begins after the association was set up, name the context in the preferences of PRES
-- ("Users Context List", Context Id 5, Syntax Name OID 1.0.62351.4.1.1.1).

local E2E_SECURITY_AS = "1.0.62351.4.1.1.1"
local OBJECT_IDENTIFIER = "2.5.4.106" -- attribute type of a subject by Annex G
local SKEW = 600 -- seconds that clocks may differ
local NESTING = 16
local LIST = 64 -- entries of a list that are shown

set_plugin_info({
    version = "1.0.0",
    description = "IEC 62351-4 end-to-end security (fastsec)",
    author = "The fastsec authors",
})

local fastsec = Proto("fastsec", "IEC 62351-4 End-to-End Security")

-- --- names -----------------------------------------------------------------------------------------------------------

local ALGORITHMS = {
    ["1.2.840.113549.1.1.11"] = "sha256WithRSAEncryption",
    ["1.2.840.10045.4.3.2"] = "ecdsa-with-SHA256",
    ["1.2.840.113549.2.9"] = "hmacWithSHA256",
    ["2.16.840.1.101.3.4.1.2"] = "aes128-CBC",
    ["2.16.840.1.101.3.4.1.42"] = "aes256-CBC",
    ["2.16.840.1.101.3.4.1.6"] = "aes128-GCM",
    ["2.16.840.1.101.3.4.1.46"] = "aes256-GCM",
    ["2.16.840.1.101.3.4.1.9"] = "aes128-GMAC",
    ["2.16.840.1.101.3.4.1.49"] = "aes256-GMAC",
}
local GCM = { -- those whose parameters hold the length of the ICV
    ["2.16.840.1.101.3.4.1.6"] = true,
    ["2.16.840.1.101.3.4.1.46"] = true,
    ["2.16.840.1.101.3.4.1.9"] = true,
    ["2.16.840.1.101.3.4.1.49"] = true,
}
local GROUPS = { [14] = "MODP 2048", [23] = "secp256r1", [28] = "brainpoolP256r1" }
local HANDSHAKE_DIAGNOSTICS = {
    [0] = "no-reason-given", "protocol-error", "protected-protocol-not-supported", "invalid-signatureAlgorithm",
    "unexpected-version", "hmac-algorithm-not-supported", "encryption-not-required", "encryption-required",
    "invalid-public-key-certificate", "invalid-certification-path", "invalid-time-value", "dhGroup-not-supported",
    "illegal-dhGroup-selected", "icv-algorithms-not-supported", "encrypt-algorithms-not-supported",
    "aea-algorithms-not-supported", "invalid-attribute-certificate", "encr-mode-aea-not-supported", "ae-is-required",
    "aea-select-but-encryp-not-supp", "invalid-ae-algorithm", "single-ae-algorithm-required", "ae-not-used",
    "invalid-encryption-algorithm", "single-encrypt-algo-required", "single-icv-algo-required",
}
local DT_DIAGNOSTICS = {
    [0] = "no-reason-given", "protocol-error", "unexpected-version", "encryption-not-selected", "encryption-required",
    "gmac-nonce-required", "invalid-sequence-number", "aes-init-vector-required", "unexpected-dhPublicKey",
    "unexpected-changedKeys", "invalid-time-value", "gmac-init-vector-required",
}

-- --- fields ----------------------------------------------------------------------------------------------------------

local f = {}
local fields = {}
local function field(name, make, abbreviation, label, ...)
    f[name] = make("fastsec." .. abbreviation, label, ...)
    fields[#fields + 1] = f[name]
end

field("kind", ProtoField.string, "kind", "SecPDU")
field("malformed", ProtoField.string, "malformed", "Malformed")
field("extension", ProtoField.bytes, "extension", "Unknown extension")

field("pp", ProtoField.string, "handshake.pp", "Protected protocol")
field("h_sigalg", ProtoField.string, "handshake.sigalg", "sigAlg")
field("h_version", ProtoField.bytes, "handshake.version", "version")
field("h_assoid", ProtoField.string, "handshake.assoid", "assoID")
field("h_time", ProtoField.string, "handshake.time", "time")
field("h_group", ProtoField.uint32, "handshake.dhkey.group", "Diffie-Hellman group")
field("h_public", ProtoField.bytes, "handshake.dhkey.public", "Public value")
field("h_hmac", ProtoField.string, "handshake.hmac", "hmac")
field("h_aea", ProtoField.string, "handshake.aea", "Authenticated encryption")
field("h_encr", ProtoField.string, "handshake.encr", "Encryption")
field("h_icv", ProtoField.string, "handshake.icv", "ICV algorithm")
field("h_conf", ProtoField.bytes, "handshake.confparams", "confParams")
field("h_tls", ProtoField.bool, "handshake.confparams.tlsprotected", "tlsProtected")
field("h_appl", ProtoField.bool, "handshake.confparams.applprotected", "applProtected")
field("h_vpn", ProtoField.bool, "handshake.confparams.vpn", "vpn")
field("h_attcert", ProtoField.bytes, "handshake.attcert", "Attribute certificate")

field("c_sigalg", ProtoField.string, "control.sigalg", "sigAlg")
field("c_version", ProtoField.bytes, "control.version", "version")
field("c_assoid", ProtoField.string, "control.assoid", "assoID")
field("c_time", ProtoField.string, "control.time", "time")
field("diag", ProtoField.uint32, "control.diag", "diag")
field("diag_name", ProtoField.string, "control.diag.name", "Diagnostic")

field("cert", ProtoField.bytes, "certificate", "pkCert")
field("path", ProtoField.bytes, "certpath", "certPath")
field("s_algo", ProtoField.string, "signature.algorithm", "Signature algorithm")
field("s_value", ProtoField.bytes, "signature.value", "Signature")

field("t_assoid", ProtoField.string, "transfer.assoid", "assoID")
field("t_time", ProtoField.string, "transfer.time", "time")
field("t_seq", ProtoField.uint32, "transfer.seq", "seq")
field("t_iv", ProtoField.bytes, "transfer.iv", "iv")
field("t_group", ProtoField.uint32, "transfer.rekey.group", "rekey, group")
field("t_rekey", ProtoField.bytes, "transfer.rekey", "rekey, public value")
field("t_reqrekey", ProtoField.bool, "transfer.reqrekey", "reqRekey")
field("t_changedkey", ProtoField.bool, "transfer.changedkey", "changedKey")
field("t_encrypted", ProtoField.bool, "transfer.encrypted", "Encrypted")
field("a_nonce", ProtoField.bytes, "auth.nonce", "nonce")
field("a_algorithm", ProtoField.string, "auth.algorithm", "algorithm")
field("a_icv", ProtoField.bytes, "auth.icv", "icv")

field("appldata", ProtoField.bytes, "appldata", "applData")
field("appldata_length", ProtoField.uint32, "appldata.length", "applData, octets")
fastsec.fields = fields

local x = {
    malformed = ProtoExpert.new("fastsec.x.malformed", "SecPDU breaks its syntax",
        expert.group.MALFORMED, expert.severity.ERROR),
    sequence = ProtoExpert.new("fastsec.x.sequence", "seq does not follow",
        expert.group.SEQUENCE, expert.severity.WARN),
    replay = ProtoExpert.new("fastsec.x.replay", "time and seq were there before",
        expert.group.SEQUENCE, expert.severity.ERROR),
    backwards = ProtoExpert.new("fastsec.x.time.backwards", "time goes backwards",
        expert.group.SEQUENCE, expert.severity.WARN),
    skew = ProtoExpert.new("fastsec.x.time.skew", "time is more than 10 min from the moment of the capture",
        expert.group.PROTOCOL, expert.severity.NOTE),
    algorithm = ProtoExpert.new("fastsec.x.signature.mismatch", "Signature.algo is not the signed sigAlg",
        expert.group.SECURITY, expert.severity.ERROR),
    version = ProtoExpert.new("fastsec.x.version", "version is not v1",
        expert.group.PROTOCOL, expert.severity.WARN),
    diagnostic = ProtoExpert.new("fastsec.x.diagnostic", "The peer gives a diagnostic",
        expert.group.RESPONSE_CODE, expert.severity.WARN),
    alarm = ProtoExpert.new("fastsec.x.alarm", "No diagnostic: the peer raised an alarm",
        expert.group.SECURITY, expert.severity.WARN),
    rekey = ProtoExpert.new("fastsec.x.rekey", "Key update: new public value of the client",
        expert.group.SEQUENCE, expert.severity.CHAT),
    changed = ProtoExpert.new("fastsec.x.changedkey", "Key update: first PDU under the server's new key",
        expert.group.SEQUENCE, expert.severity.CHAT),
    asked = ProtoExpert.new("fastsec.x.reqrekey", "The server asks for new keys",
        expert.group.SEQUENCE, expert.severity.CHAT),
}
local experts = {}
for _, one in pairs(x) do
    experts[#experts + 1] = one
end
fastsec.experts = experts

fastsec.prefs.any_port = Pref.bool("Find TPKT on any TCP port", true,
    "Take a TCP connection that begins with a COTP connection request for TPKT, whatever its port")
fastsec.prefs.mms = Pref.bool("Dissect MMS in applData", true, "Hand applData that is not encrypted to the MMS dissector")
fastsec.prefs.certificates = Pref.bool("Dissect certificates", true, "Hand certificates to the X.509 dissector")

-- What was dissected before us in the same frame.
local session_type = Field.new("ses.type")
local tcp_stream = Field.new("tcp.stream")
local tcp_port = Field.new("tcp.srcport")

-- --- BER -------------------------------------------------------------------------------------------------------------

-- The TLV at `at`, which must lie before `stop`: { tag, at, from, to, after } with `to` and `after` one past the end.
-- The tag is the identifier octets as a number. nil and a reason where there is none.
local function read(tvb, at, stop, indefinite, depth)
    if at + 2 > stop then
        return nil, "TLV is longer than what surrounds it"
    end
    local pos = at
    local tag = tvb(pos, 1):uint()
    local first = tag
    pos = pos + 1
    if first % 32 == 31 then
        local count = 0
        repeat
            if pos >= stop or count == 3 then
                return nil, "tag not allowed here"
            end
            local octet = tvb(pos, 1):uint()
            tag = tag * 256 + octet
            pos = pos + 1
            count = count + 1
        until octet < 128
    end
    if pos >= stop then
        return nil, "TLV is longer than what surrounds it"
    end
    local length = tvb(pos, 1):uint()
    pos = pos + 1
    if length == 128 then
        depth = depth or 0
        if not indefinite or first % 64 < 32 then
            return nil, "indefinite length not allowed here"
        end
        if depth >= NESTING then
            return nil, "indefinite lengths nested too deep"
        end
        local inner = pos
        while true do
            if inner + 2 > stop then
                return nil, "end-of-contents octets missing"
            end
            if tvb(inner, 2):uint() == 0 then
                return { tag = tag, first = first, at = at, from = pos, to = inner, after = inner + 2 }
            end
            local found, why = read(tvb, inner, stop, true, depth + 1)
            if not found then
                return nil, why
            end
            inner = found.after
        end
    end
    if length > 128 then
        local count = length - 128
        if count > 4 or pos + count > stop then
            return nil, "length octets not allowed here"
        end
        length = tvb(pos, count):uint()
        pos = pos + count
    end
    if length > stop - pos then
        return nil, "TLV is longer than what surrounds it"
    end
    return { tag = tag, first = first, at = at, from = pos, to = pos + length, after = pos + length }
end

-- A cursor over the TLVs between `from` and `to`. `fault` is the first thing that was wrong, with its place.
local Cursor = {}
Cursor.__index = Cursor

local function cursor(tvb, from, to, indefinite)
    return setmetatable({ tvb = tvb, pos = from, stop = to, indefinite = indefinite }, Cursor)
end

function Cursor:more()
    return not self.fault and self.pos < self.stop
end

function Cursor:fail(why)
    self.fault = self.fault or { at = self.pos, why = why }
    return nil
end

-- The tag of the next TLV, or nil.
function Cursor:peek()
    if not self:more() then
        return nil
    end
    local found = read(self.tvb, self.pos, self.stop, true)
    return found and found.tag
end

-- The next TLV; with `tag` it must have that one.
function Cursor:next(tag)
    if self.fault then
        return nil
    end
    if self.pos >= self.stop then
        return self:fail(tag and string.format("tag %02X missing at the end", tag) or "TLV missing at the end")
    end
    local found, why = read(self.tvb, self.pos, self.stop, self.indefinite)
    if not found then
        return self:fail(why)
    end
    if tag and found.tag ~= tag then
        return self:fail(string.format("tag %02X wanted, %02X found", tag, found.tag))
    end
    self.pos = found.after
    return found
end

local function inside(self, found, indefinite)
    return cursor(self.tvb, found.from, found.to, indefinite)
end

local function content(tvb, found)
    return tvb(found.from, found.to - found.from)
end

local function whole(tvb, found)
    return tvb(found.at, found.after - found.at)
end

-- Text without anything that a terminal or a column might act on.
local function text(tvb, found, maximum)
    local size = found.to - found.from
    local out = {}
    for at = found.from, found.from + math.min(size, maximum or 64) - 1 do
        local octet = tvb(at, 1):uint()
        out[#out + 1] = (octet >= 32 and octet < 127 and octet ~= 92) and string.char(octet)
            or string.format("\\x%02x", octet)
    end
    if size > (maximum or 64) then
        out[#out + 1] = "..."
    end
    return table.concat(out)
end

local function number(tvb, found)
    local size = found.to - found.from
    if size < 1 or size > 4 or tvb(found.from, 1):uint() > 127 then
        return nil
    end
    return tvb(found.from, size):uint()
end

local function oid(tvb, found)
    local size = found.to - found.from
    if size < 1 or size > 64 then
        return nil
    end
    local arcs = {}
    local value = 0
    for at = found.from, found.to - 1 do
        local octet = tvb(at, 1):uint()
        value = value * 128 + octet % 128
        if octet < 128 then
            if #arcs == 0 then
                local root = math.min(math.floor(value / 40), 2)
                arcs[1] = string.format("%.0f", root)
                value = value - 40 * root
            end
            arcs[#arcs + 1] = string.format("%.0f", value)
            value = 0
        elseif value > 2 ^ 40 then
            return nil
        end
    end
    return table.concat(arcs, ".")
end

-- An AlgorithmIdentifier: its name, with the length of the ICV where it has one, and its OID.
local function algorithm(tvb, found)
    local inner = cursor(tvb, found.from, found.to)
    local id = inner:next(0x06)
    local dotted = id and oid(tvb, id)
    if not dotted then
        return "unreadable", nil
    end
    local name = ALGORITHMS[dotted] or dotted
    if GCM[dotted] then
        local length = 12
        if inner:peek() == 0x30 then
            local parameters = inside(inner, inner:next())
            parameters:next(0x04)
            local icv = parameters:more() and parameters:next(0x02)
            length = icv and number(tvb, icv) or length
        end
        name = string.format("%s (ICV %d)", name, length)
    end
    return name, dotted
end

-- Whether bit `n` of a BIT STRING is set.
local function bit(tvb, found, n)
    local at = found.from + 1 + math.floor(n / 8)
    if at >= found.to then
        return false
    end
    return math.floor(tvb(at, 1):uint() / 2 ^ (7 - n % 8)) % 2 == 1
end

-- --- what all have in common -------------------------------------------------------------------------------------------

-- Seconds since 1970 UTC of a GeneralizedTime with seconds, and what orders them; nil if it is none.
local function moment(value)
    local y, mo, d, h, mi, s, rest = value:match("^(%d%d%d%d)(%d%d)(%d%d)(%d%d)(%d%d)(%d%d)(.*)Z$")
    if not y then
        return nil
    end
    local fraction = rest == "" and "" or rest:match("^[.,](%d+)$")
    if not fraction or #fraction > 9 then
        return nil
    end
    local order = y .. mo .. d .. h .. mi .. s .. fraction .. string.rep("0", 9 - #fraction)
    y, mo, d = tonumber(y), tonumber(mo), tonumber(d)
    if mo < 1 or mo > 12 or d < 1 or d > 31 or tonumber(h) > 23 or tonumber(mi) > 59 or tonumber(s) > 60 then
        return nil
    end
    local shifted = mo <= 2 and y - 1 or y
    local era = math.floor(shifted / 400)
    local of_era = shifted - era * 400
    local of_year = math.floor((153 * (mo > 2 and mo - 3 or mo + 9) + 2) / 5) + d - 1
    local days = era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year - 719468
    return days * 86400 + tonumber(h) * 3600 + tonumber(mi) * 60 + tonumber(s), order
end

-- Adds a time; returns what orders it.
local function add_time(tree, which, tvb, found, pinfo, problem)
    local value = text(tvb, found)
    local item = tree:add(which, content(tvb, found), value)
    local seconds, order = moment(value)
    if not seconds then
        problem(found.at, "not a time of the agreed form")
    elseif math.abs(seconds - tonumber(tostring(pinfo.abs_ts))) > SKEW then
        item:add_proto_expert_info(x.skew)
    end
    return order
end

local function add_certificate(tree, which, tvb, found, pinfo)
    local item = tree:add(which, content(tvb, found))
    item:append_text(string.format(" (%d octets)", found.to - found.from))
    if fastsec.prefs.certificates and found.to > found.from then
        local reached, dissectors = pcall(DissectorTable.get, "ber.syntax")
        if reached and dissectors then
            -- What another dissector makes of it must not end this one.
            pcall(dissectors.try, dissectors, "Certificate", content(tvb, found):tvb(), pinfo, item)
        end
    end
end

local mms_reached, mms = pcall(Dissector.get, "mms")

local function add_appl_data(tree, tvb, found, pinfo)
    local range = whole(tvb, found)
    local item = tree:add(f.appldata, range)
    tree:add(f.appldata_length, range, found.after - found.at)
    if fastsec.prefs.mms and mms_reached and mms and found.first >= 0x80 and found.first < 0xC0 then
        pcall(mms.call, mms, range:tvb(), pinfo, item)
    end
end

-- Named components that must come in this order; `known` maps a tag to a function of the found TLV.
local function rest(inner, tree, problem)
    while inner:more() do
        local found = inner:next()
        if found then
            tree:add(f.extension, whole(inner.tvb, found))
        end
    end
    if inner.fault then
        problem(inner.fault.at, inner.fault.why)
    end
end

local function add_signature(tree, tvb, found, signed_oid)
    local inner = cursor(tvb, found.from, found.to)
    local algo = inner:next(0x30)
    local value = algo and inner:next(0x04)
    if not value then
        return inner.fault
    end
    local branch = tree:add(fastsec, whole(tvb, found), "Signature")
    local name, dotted = algorithm(tvb, algo)
    local item = branch:add(f.s_algo, whole(tvb, algo), name)
    if dotted ~= signed_oid then
        item:add_proto_expert_info(x.algorithm)
    end
    branch:add(f.s_value, content(tvb, value))
end

-- --- tokens ----------------------------------------------------------------------------------------------------------

local function add_algorithms(tree, which, tvb, found, problem)
    local inner = cursor(tvb, found.from, found.to)
    local count = 0
    while inner:more() and count < LIST do
        local one = inner:next(0x30)
        if one then
            tree:add(which, whole(tvb, one), (algorithm(tvb, one)))
        end
        count = count + 1
    end
    if inner.fault then
        problem(inner.fault.at, inner.fault.why)
    end
end

local function add_path(tree, tvb, found, pinfo)
    local inner = cursor(tvb, found.from, found.to)
    local count = 0
    while inner:more() and count < LIST do
        local one = inner:next(0x04)
        if one then
            add_certificate(tree, f.path, tvb, one, pinfo)
        end
        count = count + 1
    end
end

local function add_version(tree, which, tvb, found)
    local item = tree:add(which, content(tvb, found))
    if bit(tvb, found, 0) then
        item:append_text(" (v1)")
    else
        item:add_proto_expert_info(x.version)
    end
end

local function token1(tree, tvb, found, pinfo, problem)
    local branch = tree:add(fastsec, whole(tvb, found), "ClearToken1")
    local inner = cursor(tvb, found.from, found.to)
    local one = inner:next(0x30)
    local signed
    if one then
        local name
        name, signed = algorithm(tvb, one)
        branch:add(f.h_sigalg, whole(tvb, one), name)
    end
    one = inner:next(0x04)
    if one then
        add_certificate(branch, f.cert, tvb, one, pinfo)
    end
    if inner:peek() == 0x30 then
        add_path(branch, tvb, inner:next(), pinfo)
    end
    one = inner:next(0x03)
    if one then
        add_version(branch, f.h_version, tvb, one)
    end
    one = inner:next(0x0C)
    local asso = one and text(tvb, one)
    if one then
        branch:add(f.h_assoid, content(tvb, one), asso)
    end
    one = inner:next(0x30)
    if one then
        local set = inside(inner, one)
        local count = 0
        while set:more() and count < LIST do
            local value = set:next(0x30)
            local parts = value and inside(set, value)
            local group = parts and parts:next(0x02)
            local public = group and parts:next(0x04)
            if public then
                local which = number(tvb, group) or 0
                branch:add(f.h_group, content(tvb, group), which):append_text(
                    GROUPS[which] and " (" .. GROUPS[which] .. ")" or "")
                branch:add(f.h_public, content(tvb, public))
            elseif parts and parts.fault then
                problem(parts.fault.at, parts.fault.why)
            end
            count = count + 1
        end
        if set.fault then
            problem(set.fault.at, set.fault.why)
        end
    end
    one = inner:next(0x30)
    if one then
        branch:add(f.h_hmac, whole(tvb, one), (algorithm(tvb, one)))
    end
    one = inner:next(0x18)
    if one then
        add_time(branch, f.h_time, tvb, one, pinfo, problem)
    end
    one = inner:next()
    if one and one.tag == 0x30 then
        add_algorithms(branch, f.h_aea, tvb, one, problem)
    elseif one and one.tag == 0xA0 then
        local mode = inside(inner, one)
        if mode:peek() == 0xA0 then
            add_algorithms(branch, f.h_encr, tvb, mode:next(), problem)
        end
        local icv = mode:next(0xA1)
        if icv then
            add_algorithms(branch, f.h_icv, tvb, icv, problem)
        else
            problem(mode.fault.at, mode.fault.why)
        end
    elseif one then
        problem(one.at, string.format("tag %02X is no encr-mode", one.tag))
    end
    one = inner:next(0x03)
    if one then
        local item = branch:add(f.h_conf, content(tvb, one))
        item:add(f.h_tls, content(tvb, one), bit(tvb, one, 0))
        item:add(f.h_appl, content(tvb, one), bit(tvb, one, 1))
        item:add(f.h_vpn, content(tvb, one), bit(tvb, one, 2))
    end
    if inner:peek() == 0x04 then
        branch:add(f.h_attcert, content(tvb, inner:next()))
    end
    rest(inner, branch, problem)
    return signed, asso
end

local function token3(tree, tvb, found, pinfo, problem)
    local branch = tree:add(fastsec, whole(tvb, found), "ClearToken3")
    local inner = cursor(tvb, found.from, found.to)
    local one = inner:next(0x30)
    local signed, asso
    if one then
        local name
        name, signed = algorithm(tvb, one)
        branch:add(f.c_sigalg, whole(tvb, one), name)
    end
    one = inner:next(0x03)
    if one then
        add_version(branch, f.c_version, tvb, one)
    end
    if inner:peek() == 0x80 then
        one = inner:next()
        asso = text(tvb, one)
        branch:add(f.c_assoid, content(tvb, one), asso)
    end
    one = inner:next(0x18)
    if one then
        add_time(branch, f.c_time, tvb, one, pinfo, problem)
    end
    one = inner:next(0x04)
    if one then
        add_certificate(branch, f.cert, tvb, one, pinfo)
    end
    if inner:peek() == 0x30 then
        add_path(branch, tvb, inner:next(), pinfo)
    end
    rest(inner, branch, problem)
    return signed, asso
end

-- --- order of transfers ----------------------------------------------------------------------------------------------

local directions = {} -- last (time, seq) per direction, as long as frames are seen for the first time
local verdicts = {} -- what was found then

function fastsec.init()
    directions = {}
    verdicts = {}
end

local function direction(asso)
    local stream, port = tcp_stream(), tcp_port()
    return string.format("%s/%s/%s", stream and stream.display or "-", port and port.display or "-", asso)
end

-- The expert item that (time, seq) deserves, or nil.
local function judge(pinfo, asso, order, seq)
    local key = string.format("%d/%s/%s/%s/%d", pinfo.number, direction(asso), asso, order, seq)
    if pinfo.visited then
        return verdicts[key]
    end
    local where = direction(asso)
    local last = directions[where]
    local verdict
    if not last then
        last = { order = "", seq = -1 }
        directions[where] = last
        if seq ~= 0 then
            last.order = order -- the capture begins in the middle
        end
    elseif order < last.order then
        verdicts[key] = x.backwards
        return x.backwards
    elseif order == last.order then
        if seq <= last.seq then
            verdicts[key] = x.replay
            return x.replay
        elseif seq ~= last.seq + 1 then
            verdict = x.sequence
        end
    elseif seq ~= 0 then
        verdict = x.sequence
    end
    last.order, last.seq = order, seq
    verdicts[key] = verdict
    return verdict
end

-- --- SecPDUs ---------------------------------------------------------------------------------------------------------

local function transfer(tree, tvb, pdu, pinfo, problem)
    local outer = cursor(tvb, pdu.from, pdu.to, true)
    local tbp = outer:next(0x30)
    local inner = tbp and cursor(tvb, tbp.from, tbp.to, true)
    local token = inner and inner:next(0x30)
    if not token then
        problem((inner or outer).fault.at, (inner or outer).fault.why)
        return "Transfer", nil
    end
    local branch = tree:add(fastsec, whole(tvb, token), "ClearToken2")
    local read2 = cursor(tvb, token.from, token.to)
    local asso_tlv, time_tlv = read2:next(0x0C), read2:next(0x18)
    local seq_tlv = read2:next(0x02)
    local asso, seq
    if asso_tlv then
        asso = text(tvb, asso_tlv)
        branch:add(f.t_assoid, content(tvb, asso_tlv), asso)
    end
    local order = time_tlv and add_time(branch, f.t_time, tvb, time_tlv, pinfo, problem)
    if seq_tlv then
        seq = number(tvb, seq_tlv)
        if seq then
            local item = branch:add(f.t_seq, content(tvb, seq_tlv), seq)
            local verdict = order and judge(pinfo, asso, order, seq)
            if verdict then
                item:add_proto_expert_info(verdict)
            end
        else
            problem(seq_tlv.at, "INTEGER out of range")
        end
    end
    while read2:more() do
        local one = read2:next()
        if one and one.tag == 0x80 then
            branch:add(f.t_iv, content(tvb, one))
        elseif one and one.tag == 0xA1 then
            local parts = inside(read2, one)
            local group = parts:next(0x02)
            local public = group and parts:next(0x04)
            if public then
                branch:add(f.t_group, content(tvb, group), number(tvb, group) or 0)
                branch:add(f.t_rekey, content(tvb, public)):add_proto_expert_info(x.rekey)
            else
                problem(parts.fault.at, parts.fault.why)
            end
        elseif one and (one.tag == 0x82 or one.tag == 0x83) then
            if one.to - one.from ~= 1 then
                problem(one.at, "BOOLEAN of other than one octet")
            else
                local set = content(tvb, one):uint() ~= 0
                local item = branch:add(one.tag == 0x82 and f.t_reqrekey or f.t_changedkey, content(tvb, one), set)
                if set then
                    item:add_proto_expert_info(one.tag == 0x82 and x.asked or x.changed)
                end
            end
        elseif one then
            branch:add(f.extension, whole(tvb, one))
        end
    end
    if read2.fault then
        problem(read2.fault.at, read2.fault.why)
    end
    local data = inner:next()
    if not data then
        problem(inner.fault.at, inner.fault.why)
        return "Transfer", asso, seq
    end
    local encrypted = data.tag == 0x04
    tree:add(f.t_encrypted, whole(tvb, data), encrypted)
    if encrypted then
        tree:add(f.appldata, content(tvb, data)):append_text(" (encrypted)")
        tree:add(f.appldata_length, content(tvb, data), data.to - data.from)
    else
        add_appl_data(tree, tvb, data, pinfo)
    end
    rest(inner, tree, problem)
    if outer:more() then
        local auth = outer:next(0x30)
        if auth then
            local read_auth = inside(outer, auth)
            local shown = tree:add(fastsec, whole(tvb, auth), "Authenticator")
            if read_auth:peek() == 0x80 then
                shown:add(f.a_nonce, content(tvb, read_auth:next()))
            end
            local used = read_auth:next(0x30)
            local icv = used and read_auth:next(0x04)
            if used then
                shown:add(f.a_algorithm, whole(tvb, used), (algorithm(tvb, used)))
            end
            if icv then
                shown:add(f.a_icv, content(tvb, icv))
            else
                problem(read_auth.fault.at, read_auth.fault.why)
            end
        else
            problem(outer.fault.at, outer.fault.why)
        end
    end
    return encrypted and "EncrTransfer" or "ClearTransfer", asso, seq
end

local function handshake(tree, tvb, pdu, pinfo, problem)
    local outer = cursor(tvb, pdu.from, pdu.to, true)
    local pp = outer:next(0x0C)
    tree:add(f.pp, content(tvb, pp), text(tvb, pp))
    local tbs = outer:next(0x30)
    local inner = tbs and cursor(tvb, tbs.from, tbs.to)
    local token = inner and inner:next(0x30)
    local asso, signed
    if token then
        signed, asso = token1(tree, tvb, token, pinfo, problem)
        if inner:more() then
            local data = inner:next()
            if data and data.first >= 0x80 then
                add_appl_data(tree, tvb, data, pinfo)
            elseif data then
                tree:add(f.extension, whole(tvb, data))
            end
        end
        rest(inner, tree, problem)
    elseif inner then
        problem(inner.fault.at, inner.fault.why)
    end
    local sign = outer:next(0x30)
    local fault = outer.fault
    if sign then
        fault = add_signature(tree, tvb, sign, signed)
    end
    if fault then
        problem(fault.at, fault.why)
    end
    return asso
end

local function control(tree, tvb, pdu, pinfo, problem, names)
    local outer = cursor(tvb, pdu.from, pdu.to, true)
    local tbs = outer:next(0x30)
    local inner = tbs and cursor(tvb, tbs.from, tbs.to)
    local token = inner and inner:next(0x30)
    local asso, signed, diagnosed
    if token then
        signed, asso = token3(tree, tvb, token, pinfo, problem)
        if inner:more() then
            local one = inner:next()
            if one and names and one.tag == 0x80 then
                local value = number(tvb, one) or 0
                diagnosed = names[value] or "unknown"
                local item = tree:add(f.diag, content(tvb, one), value)
                item:append_text(" (" .. diagnosed .. ")")
                item:add(f.diag_name, content(tvb, one), diagnosed)
                item:add_proto_expert_info(x.diagnostic, "Diagnostic: " .. diagnosed)
            elseif one and one.first >= 0x80 then
                add_appl_data(tree, tvb, one, pinfo)
            elseif one then
                tree:add(f.extension, whole(tvb, one))
            end
        end
        rest(inner, tree, problem)
        if names and not diagnosed then
            tree:add_proto_expert_info(x.alarm)
        end
    elseif inner then
        problem(inner.fault.at, inner.fault.why)
    end
    local sign = outer:next(0x30)
    local fault = outer.fault
    if sign then
        fault = add_signature(tree, tvb, sign, signed)
    end
    if fault then
        problem(fault.at, fault.why)
    end
    return asso, diagnosed
end

-- The SPDU that brought us, which tells a release from its answer, and a reject from an abort.
local CONNECT, ACCEPT, REFUSE, FINISH, DISCONNECT, NOT_FINISHED, ABORT = 13, 14, 12, 9, 10, 8, 25
local BY_TAG = {
    [0x30] = { [FINISH] = "ReleaseReq", [DISCONNECT] = "ReleaseRsp", [NOT_FINISHED] = "ReleaseRsp" },
    [0xA0] = { [ABORT] = "HandshakeSecAbort" },
    [0xA1] = { [ACCEPT] = "ApplicationReject", [REFUSE] = "ApplicationReject", [ABORT] = "DtSecAbort" },
    [0xA2] = { [ACCEPT] = "HandshakeSecReject", [REFUSE] = "HandshakeSecReject", [ABORT] = "ApplAbort" },
}
local UNKNOWN = { [0x30] = "Release", [0xA0] = "HandshakeSecAbort", [0xA1] = "Reject or abort", [0xA2] = "Reject or abort" }
local DIAGNOSTICS = {
    HandshakeSecReject = HANDSHAKE_DIAGNOSTICS,
    HandshakeSecAbort = HANDSHAKE_DIAGNOSTICS,
    DtSecAbort = DT_DIAGNOSTICS,
}

local function spdu()
    local all = { session_type() }
    return #all > 0 and all[#all].value or nil
end

function fastsec.dissector(tvb, pinfo, root)
    local stop = tvb:len()
    local pdu, why = read(tvb, 0, stop, false)
    local shown = pdu and tvb(0, pdu.after) or tvb()
    local tree = root:add(fastsec, shown)
    local faults = 0
    local function problem(at, reason)
        faults = faults + 1
        if faults <= 8 then
            local place = math.min(at, math.max(stop - 1, 0))
            local note = string.format("%s (octet %d)", reason, at)
            local item = stop > 0 and tree:add(f.malformed, tvb(place, math.min(1, stop)), note)
                or tree:add(f.malformed, note)
            item:add_proto_expert_info(x.malformed, note)
        end
    end
    pinfo.cols.protocol = "E2E"
    if not pdu then
        problem(0, why)
        pinfo.cols.info = "SecPDU, malformed"
        return stop
    end
    local names = BY_TAG[pdu.tag]
    local first = read(tvb, pdu.from, pdu.to, true)
    local kind, asso, more
    if not names or not first then
        problem(names and pdu.from or 0, names and "SecPDU without content" or string.format("tag %02X is no SecPDU", pdu.tag))
        kind = "SecPDU"
    elseif pdu.tag == 0x30 and first.tag == 0x0C then
        kind = "HandshakeReq"
        asso = handshake(tree, tvb, pdu, pinfo, problem)
    elseif pdu.tag == 0xA0 and first.tag == 0x0C then
        kind = "HandshakeAcc"
        asso = handshake(tree, tvb, pdu, pinfo, problem)
    else
        local carrier = spdu()
        local token = first.tag == 0x30 and read(tvb, first.from, first.to, true)
        local leading = token and read(tvb, token.from, token.to, false)
        if pdu.tag == 0x30 and (carrier == 1 or not carrier or not names[carrier]) or leading and leading.tag == 0x0C then
            local seq
            kind, asso, seq = transfer(tree, tvb, pdu, pinfo, problem)
            more = seq and "seq " .. seq
        else
            kind = names[carrier or 0] or UNKNOWN[pdu.tag]
            asso, more = control(tree, tvb, pdu, pinfo, problem, DIAGNOSTICS[kind])
        end
    end
    tree:add(f.kind, shown, kind):set_generated()
    local info = kind .. (asso and " " .. asso or "") .. (more and ", " .. more or "")
    tree:append_text(", " .. info)
    pinfo.cols.protocol = "E2E" -- MMS and X.509 have named themselves meanwhile
    pinfo.cols.info = info .. (faults > 0 and ", malformed" or "")
    return pdu.after
end

DissectorTable.get("ber.oid"):add(E2E_SECURITY_AS, fastsec)

-- --- subjects by Annex G ---------------------------------------------------------------------------------------------

-- The attribute objectIdentifier of a certificate's subject: AP-title and AE-qualifier as one OBJECT IDENTIFIER.
local subject = Proto("fastsec_subject", "IEC 62351-4 Subject")
local subject_oid = ProtoField.string("fastsec_subject.oid", "AP-title and AE-qualifier")
subject.fields = { subject_oid }

function subject.dissector(tvb, pinfo, tree)
    local found = read(tvb, 0, tvb:len(), false)
    local dotted = found and found.tag == 0x06 and oid(tvb, found)
    if not dotted then
        return 0
    end
    tree:add(subject_oid, content(tvb, found), dotted)
    return found.after
end

DissectorTable.get("ber.oid"):add(OBJECT_IDENTIFIER, subject)

-- --- TPKT on other ports than 102 ------------------------------------------------------------------------------------

-- A connection that begins with a COTP connection request of class 0 is TPKT, on whatever port it is.
local function begins_with_request(tvb)
    local size = tvb:len()
    return size >= 11
        and tvb(0, 2):uint() == 0x0300
        and tvb(2, 2):uint() == size
        and tvb(4, 1):uint() == size - 5
        and tvb(5, 1):uint() == 0xE0
        and tvb(6, 2):uint() == 0
        and tvb(10, 1):uint() < 16
end

local tpkt_reached, tpkt = pcall(Dissector.get, "tpkt")

-- A conversation takes a Proto of Lua only.
local any_port = Proto("fastsec_tpkt", "TPKT on any port")

function any_port.dissector(tvb, pinfo, root)
    return tpkt:call(tvb, pinfo, root)
end

any_port:register_heuristic("tcp", function(tvb, pinfo, root)
    if not (fastsec.prefs.any_port and tpkt_reached and tpkt and begins_with_request(tvb)) then
        return false
    end
    pinfo.conversation = any_port
    tpkt:call(tvb, pinfo, root)
    return true
end)
