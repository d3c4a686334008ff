/* The open association as two state machines and an ordered carrier: data, key update, release and abort, in every
 * interleaving of both applications, of jobs that take their time, and of PDUs under way.
 *
 * What an input does in a state is not written here: the runner makes `lookup` from the table of fastsec/state.py.
 * Here stand the actions that the table names, in short what the methods of the engine do. A PDU that verifies is one
 * whose epoch is the one of the key that the receiver chose. Time is left out: distances between updates are over.
 *
 * TRICKS adds an intermediary who deletes, repeats, swaps, retags terminal PDUs, cuts, and has the keys of epochs
 * that both sides have left. STRICT: bit 0 client, bit 1 server: the policy under which no NULL transfer is sent.
 */
/* What is run is set by the environment, so that one build does for all: DATA (PDUs of each application), UPDATES
 * (calls of update_keys() of each), ABORTS, STRICT, TRICKS (of the intermediary; 0: none) and BROKEN, one of these. */
#define OLD_KEY_TRIED 1
#define SECOND_REKEY_BEFORE_CHANGED_KEY 2
#define CHANGED_KEY_IGNORED 3
#define CARRIER_UNDER_NEW_KEY 4
#define NO_WAIT_FOR_KEYS 5
#define NOBODY_ANSWERS_FIRST 6
#define RELEASE_WITHOUT_FLUSH 7
#define REPLAYS_TAKEN 8
#define KEYS_DROPPED_WHEN_RELEASING 9
#define SENDS_WHEN_RELEASING 10
#define TRANSFERS_DROPPED_WHEN_RELEASING 11
c_decl { extern char *getenv(const char *); extern int atoi(const char *); }
byte broken, tricks, strict, data_pdus, updates, aborts;

#define ROOM 10
#define CLIENT 0
#define SERVER 1
#define OTHER(x) (1 - (x))
#define IS_STRICT(x) ((strict >> (x)) & 1)

mtype = { Rest, Deriving, Ready, Outstanding }          /* fastsec.key_update.Phase */
mtype = { Nothing, Transfer, ReleaseReq, ReleaseRsp, Abort }

typedef Side {
  byte state; mtype phase;
  byte tx, rx;                      /* epoch of the key of each direction */
  bool changed;                     /* the next PDU has changedKey */
  bool asking;                      /* reqRekey is being set */
  bool deriving;                    /* a derivation job runs */
  bool busy;                        /* reception waits for a job */
  mtype verifying, signing, waiting;/* control PDU being verified, being signed, to be signed after it */
  bool ending, released, confirmed;
  byte left, updates, aborts;       /* what the application still may do */
  byte sent, got, number, last;     /* data sent and delivered; (time, seq) sent and accepted */
  byte newest                       /* latest epoch of which a PDU was accepted */
}
Side side[2];
/* kind, epoch, (time, seq), is data, rekey, reqRekey, changedKey */
chan wire[2] = [ROOM] of { mtype, byte, byte, bool, bool, bool, bool };
bool cut, tampered;

#include "table.pml"

#define me side[i]
#define OPEN_PHASE (me.state != S_ENDING && me.state != S_ENDED)


inline put(p_kind, p_epoch, p_number, p_data, p_rekey, p_req, p_chg) {
  if
  :: side[OTHER(i)].state == S_ENDED || cut -> skip           /* nobody reads any more */
  :: else -> assert(nfull(wire[OTHER(i)])); wire[OTHER(i)]!p_kind, p_epoch, p_number, p_data, p_rekey, p_req, p_chg
  fi
}
inline emit(e_data, e_rekey) {
  me.number++;
  if :: e_data -> me.sent++; me.left-- :: else fi;
  put(Transfer, me.tx, me.number, e_data, e_rekey, me.asking, me.changed);
  me.changed = false
}
inline announce(a_data) {           /* the client's carrier, or the server's changedKey */
  if
  :: i == SERVER -> emit(a_data, false); me.phase = Rest
  :: i == CLIENT && broken != CARRIER_UNDER_NEW_KEY -> emit(a_data, true); me.tx++; me.phase = Outstanding
  :: i == CLIENT && broken == CARRIER_UNDER_NEW_KEY -> me.tx++; emit(a_data, true); me.phase = Outstanding
  fi
}
inline sign(s_kind) {
  if :: me.signing == Nothing -> me.signing = s_kind :: else -> me.waiting = s_kind fi
}
inline close() {
  me.state = S_ENDED; me.deriving = false; me.busy = false; me.verifying = Nothing; me.signing = Nothing; me.waiting = Nothing
}
inline finish() {                   /* ApplAbort or DtSecAbort */
  me.state = S_ENDING; me.ending = true; me.signing = Abort; me.waiting = Nothing; me.verifying = Nothing; me.busy = false; me.deriving = false
}
inline fault() {
  assert(tampered);                 /* two honest sides never find a fault in each other */
  finish()
}
inline want_new_keys() {
  if
  :: me.phase != Rest && !(broken == SECOND_REKEY_BEFORE_CHANGED_KEY && i == CLIENT && me.phase == Outstanding) -> skip
  :: me.asking -> skip
  :: else ->
     if
     :: i == SERVER -> me.asking = true; if :: !IS_STRICT(i) -> emit(false, false) :: else fi
     :: else -> me.phase = Deriving; me.deriving = true
     fi
  fi
}

#define KEY_FITS (epoch == me.rx + is_new || (broken == OLD_KEY_TRIED && epoch < me.rx))
#define IN_ORDER (number > me.last || broken == REPLAYS_TAKEN)
inline take_transfer() {
  is_new = (chg || broken == CHANGED_KEY_IGNORED) && me.phase == Outstanding;
  if
  :: !KEY_FITS || !IN_ORDER -> fault()
  :: tampered && number > me.last + 1 -> fault()               /* a gap: seen within one time value, else not */
  :: KEY_FITS && IN_ORDER ->
     if
     :: i == CLIENT && (rekey || (chg && !is_new)) -> fault()
     :: i == SERVER && (req || chg || (rekey && me.phase != Rest)) -> fault()
     :: else ->
        assert(epoch >= me.newest);                            /* nothing under a key that was left */
        assert(number > me.last);                              /* nothing twice, nothing out of order */
        me.newest = epoch; me.last = number; me.confirmed = true;
        if :: is_new -> me.rx++; me.phase = Rest :: else fi;
        if :: data -> me.got++ :: else fi;
        if
        :: rekey -> me.asking = false; me.phase = Deriving; me.deriving = true;
           me.busy = (broken != NO_WAIT_FOR_KEYS)
        :: !rekey && req && me.state == S_OPEN -> want_new_keys()
        :: else
        fi
     fi
  fi
}
inline use_new_keys() {
  if
  :: i == CLIENT && me.state != S_OPEN -> skip                 /* the release came first */
  :: else ->
     me.phase = Ready;
     if :: i == SERVER -> me.tx++; me.rx++; me.changed = true :: else fi;
     if
     :: !IS_STRICT(i) && (me.state == S_OPEN || me.state == S_ASKED) -> announce(false)
     :: else
     fi
  fi
}
inline cross_release() {
  if
  :: i == CLIENT && broken != NOBODY_ANSWERS_FIRST -> sign(ReleaseRsp)
  :: else
  fi
}
inline finish_crossed() {
  if
  :: i == CLIENT -> me.released = true; close()
  :: else -> me.state = S_ANSWERING; sign(ReleaseRsp)
  fi
}
inline send_control() {
  put(made, me.tx, 0, false, false, false, false);
  if
  :: me.ending -> close()
  :: !me.ending && made == ReleaseRsp && me.state == S_ANSWERING -> me.released = true; close()
  :: else
  fi
}
#define AT_REST(x) (side[x].state == S_OPEN && side[x].phase == Rest && len(wire[x]) == 0)
/* At rest, both directions of both sides are in the same epoch. */
inline in_step() {
  if
  :: !tampered && AT_REST(0) && AT_REST(1) ->
     assert(side[0].tx == side[1].rx && side[1].tx == side[0].rx && side[0].tx == side[1].tx)
  :: else
  fi
}
/* One input: look up, change the state, act; as Engine._dispatch. */
inline dispatch() {
  has_signed = (me.signing == Nothing && me.waiting == Nothing);
  lookup(me.state, given);
  if :: next != S_STAY -> me.state = next :: else fi;
  if
  :: act == A_SEAL -> if :: me.phase == Ready -> announce(true) :: else -> emit(true, false) fi
  :: act == A_TAKE_TRANSFER -> take_transfer()
  :: act == A_DROP_TRANSFER -> skip
  :: act == A_WANT_NEW_KEYS -> want_new_keys()
  :: act == A_USE_NEW_KEYS -> use_new_keys()
  :: act == A_ASK_RELEASE -> sign(ReleaseReq)
  :: act == A_INDICATE_RELEASE -> skip
  :: act == A_ANSWER_RELEASE -> sign(ReleaseRsp)
  :: act == A_RELEASED -> me.released = true; close()
  :: act == A_CROSS_RELEASE -> cross_release()
  :: act == A_FINISH_CROSSED -> finish_crossed()
  :: act == A_SEND_CONTROL -> send_control()
  :: act == A_ABORT_DATA -> finish()
  :: act == A_ABORTED || act == A_LOST || act == A_OVERTAKEN -> close()
  :: act == A_CALLER -> assert(false)                          /* the application below never asks for this */
  :: act == A_DT_ABORT -> fault()
  :: act == A_DROP -> skip
  fi;
  in_step();
  act = 0; next = 0; has_signed = false; is_new = false
}
#define FLUSHED (me.left == 0 || broken == RELEASE_WITHOUT_FLUSH || broken == SENDS_WHEN_RELEASING)

proctype association(byte i) {
  byte given, act, next, epoch, number; bool has_signed, is_new, data, rekey, req, chg; mtype kind, made;
  do
  :: atomic {
       if
       /* the application: sends what it has, updates keys, releases when all is sent, may abort */
       :: CAN_SEND(me.state) && me.left > 0 -> given = I_SEND
       :: me.state == S_OPEN && me.updates > 0 -> me.updates--; given = I_UPDATE_KEYS
       :: me.state == S_OPEN && FLUSHED -> given = I_RELEASE
       :: me.state == S_ASKED && FLUSHED -> given = I_RELEASE_ACCEPT
       :: OPEN_PHASE && me.aborts > 0 -> me.aborts--; given = I_ABORT
       /* jobs are done */
       :: me.deriving -> me.deriving = false; given = I_KEYS_MADE; if :: i == SERVER -> me.busy = false :: else fi
       :: me.signing != Nothing -> made = me.signing; me.signing = me.waiting; me.waiting = Nothing; given = I_CONTROL_MADE
       :: me.verifying != Nothing -> kind = me.verifying; me.verifying = Nothing; me.busy = false;
          if
          :: kind == ReleaseReq -> given = I_RELEASE_REQ
          :: kind == ReleaseRsp -> given = I_RELEASE_RSP
          :: kind == Abort -> given = I_APPL_ABORT
          fi
       /* a PDU arrives; the signature of a control PDU is checked in a job */
       :: OPEN_PHASE && !me.busy && !cut && len(wire[i]) > 0 -> wire[i]?kind, epoch, number, data, rekey, req, chg;
          if
          :: kind == Transfer -> given = I_TRANSFER
          :: else -> me.verifying = kind; me.busy = true
          fi
       :: cut && me.state != S_ENDED -> given = I_LOST
       fi;
       if :: given != 0 -> printf("%d %d %d %d\n", i, me.state, given, (kind == Transfer -> 8 + epoch * 16 + chg * 4 + rekey * 2 + data : 0)); dispatch() :: else fi;
       given = 0; kind = 0; made = 0; epoch = 0; number = 0; data = false; rekey = false; req = false; chg = false
     }
  :: me.state == S_ENDED -> break
  od
}

proctype intermediary() {
  byte d, epoch, number, epoch2, number2; mtype kind, kind2;
  bool data, rekey, req, chg, data2, rekey2, req2, chg2;
  do
  :: tricks > 0 -> atomic {
     tricks--;
     if :: d = 0 :: d = 1 fi;
     if
     :: nempty(wire[d]) -> wire[d]?kind, epoch, number, data, rekey, req, chg; tampered = true;    /* deleted, or kept */
        if
        :: printf("9 1 %d 0\n", d)
        :: kind == ReleaseReq -> wire[d]!ReleaseRsp, epoch, number, data, rekey, req, chg; printf("9 2 %d 0\n", d) /* retagged */
        :: kind == ReleaseRsp -> wire[d]!ReleaseReq, epoch, number, data, rekey, req, chg; printf("9 2 %d 0\n", d)
        :: kind == Transfer && len(wire[d]) > 0 ->                                                /* swapped */
           wire[d]?kind2, epoch2, number2, data2, rekey2, req2, chg2;
           wire[d]!kind2, epoch2, number2, data2, rekey2, req2, chg2; wire[d]!kind, epoch, number, data, rekey, req, chg;
           printf("9 3 %d 0\n", d)
        :: kind == Transfer && len(wire[d]) < ROOM - 2 ->                                          /* repeated */
           wire[d]!kind, epoch, number, data, rekey, req, chg; wire[d]!kind, epoch, number, data, rekey, req, chg;
           printf("9 4 %d 0\n", d)
        fi
     :: len(wire[d]) < ROOM - 2 && side[0].rx > 0 && side[1].rx > 0 && side[0].tx > 0 && side[1].tx > 0 ->
        tampered = true; wire[d]!Transfer, 0, 50, true, false, false, false; printf("9 5 %d 0\n", d) /* under a left key */
     :: cut = true; printf("9 6 0 0\n")
     fi }
  :: break
  od
}

init {
  atomic {
    c_code {
      now.broken = atoi(getenv("BROKEN")); now.tricks = atoi(getenv("TRICKS")); now.strict = atoi(getenv("STRICT"));
      now.data_pdus = atoi(getenv("DATA")); now.updates = atoi(getenv("UPDATES")); now.aborts = atoi(getenv("ABORTS"));
    };
    byte k;
    for (k : 0 .. 1) {
      side[k].state = S_OPEN; side[k].phase = Rest; side[k].left = data_pdus; side[k].updates = updates;
      side[k].verifying = Nothing; side[k].signing = Nothing; side[k].waiting = Nothing; side[k].aborts = aborts
    }
    run association(CLIENT); run association(SERVER);
    if :: tricks > 0 -> run intermediary() :: else fi
  }
  (side[0].state == S_ENDED && side[1].state == S_ENDED);
  if
  :: aborts == 0 && !tampered && !cut ->
     assert(side[0].released && side[1].released);
     assert(broken == SENDS_WHEN_RELEASING || (side[0].left == 0 && side[1].left == 0));
     assert(side[0].got == side[1].sent && side[1].got == side[0].sent)
  :: else
  fi
}
