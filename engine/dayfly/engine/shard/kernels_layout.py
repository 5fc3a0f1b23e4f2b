"""Numbers that the kernels and their callers share: codes, columns and cells. Plain constants, compiled in."""

FOREVER = 9223372036854775807
NULL = -9223372036854775808
LOOK_AHEAD = 64  # entries looked at for the end of an answer; beyond them the answer is looked at again

# predicate operations: (operation, slot, argument, unused)
P_TRUE, P_NUMBER_EQ, P_NUMBER_NE, P_NUMBER_LT, P_NUMBER_LE, P_NUMBER_GT, P_NUMBER_GE = 0, 1, 2, 3, 4, 5, 6
P_TEXT, P_TEXT_NOT, P_PRESENT, P_CHANNEL_EQ, P_NOT, P_AND, P_OR = 7, 8, 9, 10, 11, 12, 13

# tag operations: (operation, argument)
T_LEAF, T_AND, T_OR, T_NOT, T_IN_TAG = 0, 1, 2, 3, 4

# leaf kinds; columns of `Program.leaves`
(L_COUNT, L_SUM, L_AVG, L_MIN, L_MAX, L_FIRST, L_LAST, L_DISTINCT, L_ABSENT, L_FIRST_TIME, L_STOPPED, L_RESTARTED,
 L_REGULARLY, L_SEQUENCE) = range(14)  # fmt: skip
(C_KIND, C_FEATURE, C_WITHIN, C_OPERATOR, C_CONSTANT, C_QUIET, C_GAP, C_STEPS, C_STEP_COUNT, C_WITHOUT, C_TEXT,
 C_MEMORY) = range(12)  # fmt: skip

SCRATCH_CLOCK = 128  # cell of `World.scratch` with the shard's clock: beyond it nothing may be remembered

EQ, NE, LT, LE, GT, GE = 0, 1, 2, 3, 4, 5

# --- the event loop ---

SHIFT = 16  # person << SHIFT | tag or feature

# codes of `run`
DONE, FIRED, CONSENT, MERGE, WAIT, WAITING_DUE, CONSENT_DUE, GROW, FLUSH, TAKE_IN = range(10)

# cells of `Core.control`
(CLOCK, SEQUENCE, EMITTED, FIRES, HEAP, EVENTS, VALUES, PEOPLE, WAITING, PERSON, ACCEPTED, DUPLICATE, TOO_LATE,
 TOO_FAR, IGNORED, REFUSED, UPDATES, UNSETTLED, PASSED, OBSERVED) = range(20)  # fmt: skip

# kinds of emitted rows: (kind, at, person, tag or trigger or index, until or reason, sequence)
ENTER, LEAVE, UNCONSENTED, DEAD = 1, 2, 3, 4
REASON_WHEN, REASON_CONSENT = 0, 1
LATE_LETTER, EARLY_LETTER = 1, 2

# columns of `Core.history`
H_TIME, H_PERSON, H_TYPE, H_CHANNEL, H_VALUES, H_PREVIOUS, H_DIGEST = 0, 1, 2, 3, 4, 5, 6

# columns of `Core.people`
LAST_EVENT, CONSENT_DUE_AT, CONSENT_SEEN, ALIVE, NEWEST, CONSENT_SEEN_AT = 0, 1, 2, 3, 4, 5
