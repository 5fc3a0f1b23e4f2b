"""The mutants: what went wrong elsewhere, as edits of our code, and the check that must notice each.

`seen_in` names an incident where there is one (an issue, a paper about broken mechanisms), and else the source that warns of the mistake.
"""

from typing import Final, NamedTuple

from .patching import Edit

__all__ = ["MUTANTS", "Mutant"]


class Mutant(NamedTuple):
    """A mistake.

    Attributes:
        name: In a few words.
        seen_in: Where in history.
        edits: What makes it.
        killed_by: The check that must fail, `module.function` beside this file.
    """

    name: str
    seen_in: str
    edits: tuple[Edit, ...]
    killed_by: str


def _one(name: str, seen_in: str, module: str, old: str, new: str, killed_by: str) -> Mutant:
    place = module if module.startswith("tests.") else f"dayfly.privacy.{module}"
    return Mutant(name, seen_in, (Edit(place, old, new),), killed_by)


_BOUNDING: Final = (
    _one(
        "keeps L0 + 1 groups",
        "off by one of truncations (opendp 0.16 has its mirror image)",
        "bounding.group_by",
        "        group_count,\n        l0=contribution.l0,\n        method=method,\n        salt=salt,\n        customer_words=customer_words,\n"
        "        group_words=group_words,\n    )\n    for batch in batches(table, customers, groups, values, lattice):\n        table.offer(batch)\n    return",
        "        group_count,\n        l0=contribution.l0 + 1,\n        method=method,\n        salt=salt,\n        customer_words=customer_words,\n"
        "        group_words=group_words,\n    )\n    for batch in batches(table, customers, groups, values, lattice):\n        table.offer(batch)\n    return",
        "bounding.neighbours_differ_by_no_more_than_is_claimed",
    ),
    _one(
        "keeps L0 - 1 groups, noise for L0",
        "opendp 0.16 truncate_num_groups: dense rank from 1, predicate < k",
        "bounding.slots",
        "Settings(self._l0,",
        "Settings(max(1, self._l0 - 1),",
        "bounding.as_many_groups_are_kept_as_allowed",
    ),
    _one(
        "sample without salt",
        'opendp 0.16 keep="sample": an unsalted hash decides',
        "bounding.salts",
        "hashlib.blake2b(key=salt, person=person, digest_size=SALT_BYTES)",
        "hashlib.blake2b(person=person, digest_size=SALT_BYTES)",
        "bounding.samples_differ_between_customers_and_releases",
    ),
    _one(
        "same groups kept of every customer",
        'opendp 0.16 keep="sample": all 1,000 users keep the same groups',
        "bounding.group_by",
        "customer_words = keys.code_words(count, of=keys.customers)",
        "customer_words = np.zeros(count, np.uint64)",
        "bounding.samples_differ_between_customers_and_releases",
    ),
    _one(
        "bounds rows instead of customers",
        "diffprivlib: no bound per user anywhere",
        "bounding.group_by",
        "    for batch in batches(table, customers, groups, values, lattice):\n        table.offer(batch)\n    return",
        "    customers = np.arange(customers.size) % (1 + customers.max(initial=0))\n"
        "    for batch in batches(table, customers, groups, values, lattice):\n        table.offer(batch)\n    return",
        "bounding.neighbours_differ_by_no_more_than_is_claimed",
    ),
    _one(
        "clamps above, not below",
        "Wilson et al. 2020, section 3: both bounds of a sum",
        "bounding.kernels",
        "min(max(table.slots[slot, 1], clamp.lower), clamp.upper)",
        "min(table.slots[slot, 1], clamp.upper)",
        "bounding.neighbours_differ_by_no_more_than_is_claimed",
    ),
    _one(
        "rows of a customer in a group unbounded",
        "Wilson et al. 2020, section 3: bounds per user and group",
        "bounding.kernels",
        "min(table.slots[slot, 0] & COUNT_LIMIT, clamp.rows)",
        "(table.slots[slot, 0] & COUNT_LIMIT)",
        "bounding.neighbours_differ_by_no_more_than_is_claimed",
    ),
    _one(
        "sensitivity 0 when a bound is 0",
        "diffprivlib #105, #110: the lower bound taken twice",
        "bounding.contribution",
        "self._sensitivity(max(abs(self.sum_lower), abs(self.sum_upper)))",
        "self._sensitivity(max(abs(self.sum_lower), abs(self.sum_upper)) if self.sum_lower and self.sum_upper else 0)",
        "bounding.the_claim_of_a_sum_is_the_largest_bound",
    ),
    _one(
        "sensitivity half of what it is",
        "opendp #2945: a factor 2",
        "bounding.contribution",
        "self._sensitivity(max(abs(self.sum_lower), abs(self.sum_upper)))",
        "self._sensitivity((self.sum_upper - self.sum_lower + 1) // 2)",
        "bounding.neighbours_differ_by_no_more_than_is_claimed",
    ),
    _one(
        "squared L2 norm without the square",
        "smartnoise-core #243: L2 sensitivities without their roots",
        "bounding.contribution",
        "l2_squared=self.l0 * linf * linf, linf=linf",
        "l2_squared=self.l0 * linf, linf=linf",
        "bounding.neighbours_differ_by_no_more_than_is_claimed",
    ),
    _one(
        "forgets that a customer is in several groups",
        "Wilson et al. 2020, section 3: users own rows in many groups",
        "bounding.contribution",
        "l0=self.l0 if linf else 0, l1=self.l0 * linf, l2_squared=self.l0 * linf * linf, linf=linf",
        "l0=1, l1=linf, l2_squared=linf * linf, linf=linf",
        "bounding.neighbours_differ_by_no_more_than_is_claimed",
    ),
    _one(
        "counts rows, pays for customers",
        "smartnoise-sdk #317: noise of a count hard-coded to 1",
        "bounding.contribution",
        "self._sensitivity(self.rows_per_group)",
        "self._sensitivity(1)",
        "bounding.neighbours_differ_by_no_more_than_is_claimed",
    ),
    _one(
        "one row too many is sampled",
        "off by one of reservoirs",
        "bounding.kernels",
        "< limit - marks.taken[slot, 1]",
        "<= limit - marks.taken[slot, 1]",
        "bounding.rows_are_sampled_to_their_limit",
    ),
    _one(
        "bounds each piece of the data, not the whole",
        "Amin et al. 2022 (Plume): bounding comes before splitting",
        "bounding.partial",
        "            theirs.customer_array(),\n",
        "            pa.array(np.asarray(theirs.customer_array()) + (1 << 40)),\n",
        "bounding.pieces_merge_to_the_whole",
    ),
    _one(
        "NaN passes the clamp",
        "a comparison with NaN is never true",
        "bounding.kernels",
        "        if np.isnan(values[row]):\n            out[row] = NO_VALUE",
        "        if np.isnan(values[row]):\n            out[row] = limit",
        "bounding.rows_without_a_value_do_not_count",
    ),
    _one(
        "large integers wrap around",
        "Casacuberta et al. 2022, overflow",
        "bounding.kernels",
        "        if values[row] > bound:\n            out[row] = limit\n        elif values[row] < -bound:",
        "        if values[row] < -bound:",
        "bounding.large_values_saturate",
    ),
    _one(
        "sums that can leave int64",
        "Casacuberta et al. 2022, modular addition",
        "bounding.contribution",
        "MAX_BOUND: Final = 2**32",
        "MAX_BOUND: Final = 2**62",
        "bounding.no_total_can_leave_int64",
    ),
    _one(
        "sums in floats",
        "Casacuberta et al. 2022, rounding; Google differential-privacy #126, #127",
        "bounding.kernels",
        "sums[group] += min(max(table.slots[slot, 1], clamp.lower), clamp.upper)",
        "sums[group] = int(float(sums[group]) + float(min(max(table.slots[slot, 1], clamp.lower), clamp.upper)))",
        "bounding.totals_add_up_exactly",
    ),
)

_ACCOUNTING: Final = (
    _one(
        "floating-point Laplace",
        "Mironov 2012; diffprivlib #19; opacus #616",
        "noise",
        "    return _calls().invoke(measurement, values)",
        "    return values + np.rint(np.random.default_rng().laplace(0, 1, values.size)).astype(np.int64)",
        "accounting.noise_has_the_probabilities_that_are_claimed",
    ),
    _one(
        "noise from a seeded generator",
        "privcount #65; Garfinkel and Leclerc 2020",
        "noise",
        "    return _calls().invoke(measurement, values)",
        "    return values + np.rint(np.random.laplace(0, 1000, values.size)).astype(np.int64)",
        "accounting.noise_is_drawn_anew_each_time",
    ),
    _one(
        "scale rounded down",
        "opendp #314: a sensitivity truncated down; Casacuberta et al. 2022",
        "accounting.rounding",
        "    return floor if floor * floor == value else floor + Fraction(1, _root_scale(value))",
        "    return floor",
        "accounting.scales_are_rounded_up",
    ),
    _one(
        "rho without its factor",
        "Bun and Steinke 2016, proposition 1.6, misread as l2^2 / (2 sigma)^2",
        "accounting.losses",
        "return Fraction(self.l2_squared) / (2 * self.scale * self.scale)",
        "return Fraction(self.l2_squared) / (2 * self.scale) ** 2",
        "accounting.rho_bounds_every_divergence",
    ),
    _one(
        "epsilon^2 / 8 for mechanisms without a bounded range",
        "Cesar and Rogers 2021: it holds for the exponential mechanism only",
        "accounting.costs",
        "    return min(rho, epsilon * epsilon / 2)",
        "    return epsilon * epsilon / 8",
        "accounting.rho_bounds_every_divergence",
    ),
    _one(
        "textbook Gaussian beyond epsilon 1",
        "Balle and Wang 2018; Zhao et al. 2019",
        "accounting.conversions",
        "    return _rho_at(order, epsilon, delta)",
        "    return epsilon * epsilon / (4 * ln_down(Fraction(5, 4) / delta))",
        "accounting.conversion_covers_the_gaussian",
    ),
    _one(
        "wrong sign in the conversion from zCDP",
        "conversions of Bun and Steinke 2016 and Canonne et al. 2020 differ in signs",
        "accounting.conversions",
        "return coarse_down((epsilon - (_escape_up(order) - ln_down(delta)) / (order - 1)) / order)",
        "return coarse_down((epsilon + (_escape_up(order) - ln_down(delta)) / (order - 1)) / order)",
        "accounting.conversion_covers_the_gaussian",
    ),
    _one(
        "delta of a threshold not shared among L0 keys",
        "Korolova et al. 2009, read for one key",
        "accounting.selection",
        "    union = min(Fraction(1), one * l0)\n",
        "    return one\n",
        "accounting.a_key_of_one_customer_is_shown_no_more_often_than_delta",
    ),
    _one(
        "threshold: above, or from",
        "opendp 0.16: the map forgets the value that equals the threshold",
        "accounting.selection",
        'exact("threshold", threshold) - linf)',
        'exact("threshold", threshold) - linf + 1)',
        "accounting.a_key_of_one_customer_is_shown_no_more_often_than_delta",
    ),
    _one(
        "delta of a selection not shared among L0 keys",
        "Desfontaines, Voss, Gipson and Mandayam 2022, section 3",
        "accounting.selection",
        "self.epsilon / self.l0, self.delta / self.l0",
        "self.epsilon / self.l0, self.delta",
        "accounting.a_selection_of_keys_keeps_no_lone_key_too_often",
    ),
    _one(
        "composition by the largest loss",
        "smartnoise-sdk #319: of a sum, the larger of both",
        "accounting.costs",
        "rho=self.rho + other.rho, delta=self.delta + other.delta)",
        "rho=max(self.rho, other.rho), delta=self.delta + other.delta)",
        "accounting.losses_add_up",
    ),
    _one(
        "delta forgotten in composition",
        "Kairouz, Oh and Viswanath 2015: deltas compose too",
        "accounting.costs",
        "rho=self.rho + other.rho, delta=self.delta + other.delta)",
        "rho=self.rho + other.rho, delta=max(self.delta, other.delta))",
        "accounting.losses_add_up",
    ),
    _one(
        "filter looks at what is left, not at what is asked",
        "odometers that stop one query late; Rogers et al. 2016",
        "accounting.filters",
        "    if asked > left:",
        "    if left < 0:",
        "accounting.a_filter_lets_nothing_pass_its_budget",
    ),
    _one(
        "loss distribution read at the cell below",
        "optimistic discretisations; Doroshenko et al. 2022",
        "accounting.pld",
        "edge = (self.first + right) * self.step",
        "edge = (self.first + right - 40) * self.step",
        "accounting.a_distribution_of_losses_is_never_below_the_exact_loss",
    ),
    _one(
        "amplification by q times epsilon",
        "the first order of Li, Qardaji and Su 2012, taken for a bound",
        "accounting.costs",
        "coarse_up(ln_up(1 + rate * (exp_up(whole.epsilon) - 1)))",
        "coarse_up(rate * whole.epsilon)",
        "accounting.a_sample_amplifies_no_more_than_it_does",
    ),
)

_LEDGER: Final = (
    _one(
        "stale totals while others spend",
        "check then act: budget services without a transaction",
        "ledger.book",
        "if known is None or known[0] != seq:",
        "if known is None:",
        "ledger.two_openers_share_one_budget",
    ),
    _one(
        "limit checked before the spend is added",
        "odometers that stop one query late",
        "ledger.accounts",
        "if amount and spent > limit.amount:",
        "if amount and before.spent > limit.amount:",
        "ledger.two_openers_share_one_budget",
    ),
    _one(
        "delta not limited",
        "accountants that add up epsilon alone",
        "ledger.accounts",
        "if asked.delta and delta > limit.delta:",
        "if False:",
        "ledger.delta_is_limited_too",
    ),
    _one(
        "only the first account is charged",
        "per-analyst budgets on one data set (collusion)",
        "ledger.book",
        "for held in self._covering(spend)\n        ]\n        return Plan",
        "for held in list(self._covering(spend))[:1]\n        ]\n        return Plan",
        "ledger.every_account_is_charged_and_can_refuse",
    ),
    Mutant(
        "a clock set back renews the budget",
        "renewal by the wall clock",
        (
            Edit("dayfly.privacy.ledger.accounts", "if period <= self.period:", "if period == self.period:"),
            Edit("dayfly.privacy.ledger.ledger", "if now < latest_ms - self._slack_ms:", "if False:"),
            Edit(
                "dayfly.privacy.ledger.ledger", "        return max(now, latest_ms)\n", "        return now\n"
            ),
        ),
        "ledger.a_clock_set_back_renews_nothing",
    ),
    _one(
        "refund by a negative loss",
        "losses below zero that are accepted",
        "ledger.amounts",
        "if not 0 <= value <= LARGEST:",
        "if not value <= LARGEST:",
        "ledger.a_negative_loss_is_no_refund",
    ),
    _one(
        "ledger rounds down",
        "budgets in rounded numbers",
        "ledger.amounts",
        "Fraction(-(-value.numerator * GRID // value.denominator), GRID)",
        "Fraction(value.numerator * GRID // value.denominator, GRID)",
        "ledger.amounts_are_rounded_up",
    ),
    _one(
        "a commit is not synced",
        "budgets that a restart forgets: opacus #117",
        "ledger.file",
        '    "synchronous = FULL",',
        '    "synchronous = OFF",',
        "ledger.a_commit_is_synced",
    ),
)

_STREAMS: Final = (
    _one(
        "column norm rounded down",
        "closed forms of column norms: jax_privacy #398",
        "continual.factors",
        "            found.append(-(-moved >> divisor))",
        "            found.append(moved >> divisor)",
        "streams.the_reach_of_a_contribution_is_rounded_up",
    ),
    _one(
        "one participation assumed",
        "Choquette-Choo et al. 2023: single-epoch sensitivity for several",
        "continual.participation",
        "moved = _stacked(reach, gap, min(participation.steps, in_block))",
        "moved = _stacked(reach, gap, 1)",
        "streams.the_sensitivity_of_a_stream_covers_every_pattern",
    ),
    _one(
        "sensitivity of one step, not of the stream",
        "noise per step in dashboards that refresh",
        "continual.plan",
        "    return l2_squared(reach, plan.participation, blocks=plan.blocks)",
        "    return l2_squared(reach[:1], plan.participation, blocks=plan.blocks)",
        "streams.neighbours_centres_stay_within_the_sensitivity",
    ),
    _one(
        "fresh noise when a step is repeated",
        "averaging attacks on dashboards (Asghar and Kaafar 2020)",
        "continual.totals",
        "        if step == self._step - 1:\n            return self.last()",
        "        if step == self._step - 1:\n            self._totals += noise.gaussian(0 * self._totals, self._scale, l2_squared=self._l2_squared)\n            return self.last()",
        "streams.a_repeated_step_is_the_same_answer",
    ),
    _one(
        "one participation too many",
        "off by one of limiters",
        "continual.limiter",
        "(self._used[place] < self._participation.steps)",
        "(self._used[place] <= self._participation.steps)",
        "streams.nobody_takes_part_more_often_than_allowed",
    ),
    _one(
        "randomised response over k instead of k - 1 others",
        "Kairouz, Bonawitz and Ramage 2016, off by one",
        "localdp.response",
        "        others = len(self.categories) - 1\n",
        "        others = len(self.categories)\n",
        "streams.reports_differ_by_no_more_than_e_to_the_epsilon",
    ),
    _one(
        "unary encoding: two bits differ, one is paid",
        "Erlingsson et al. 2014 (RAPPOR) read per bit",
        "localdp.unary",
        "            odds = sqrt_down(odds)\n",
        "            odds = odds * 1\n",
        "streams.reports_differ_by_no_more_than_e_to_the_epsilon",
    ),
    _one(
        "coin rounded down",
        "Jin, McMurtry, Rubinstein and Ohrimenko 2022",
        "localdp.coins",
        "    weight = -(-whole // (odds + others))",
        "    weight = int(whole // (odds + others))",
        "streams.reports_differ_by_no_more_than_e_to_the_epsilon",
    ),
    _one(
        "biased decoding",
        "Wang et al. 2017: estimates must take off the stray answers",
        "localdp.estimates",
        "(supports.astype(np.float64) - reports * q) / gap",
        "supports.astype(np.float64) / p",
        "streams.decoding_is_unbiased",
    ),
)

_SANDBOX: Final = (
    _one(
        "a tree of counts paid for one level",
        "Qardaji, Yang and Li 2013: a row is counted once per level",
        "sandbox.parts",
        "l0=one.l0 * levels, l1=one.l1 * levels, l2_squared=one.l2_squared * levels, linf=one.linf",
        "l0=one.l0, l1=one.l1, l2_squared=one.l2_squared, linf=one.linf",
        "sandbox.what_reaches_the_noise_moves_within_the_claim",
    ),
    _one(
        "distinct values: a customer counts once",
        "Wilson et al. 2020, COUNT DISTINCT of another column than the user",
        "sandbox.parts",
        "l0=most if checked.query.group_by else 1, l1=most, l2_squared=most * most, linf=most",
        "l0=1, l1=1, l2_squared=1, linf=1",
        "sandbox.what_reaches_the_noise_moves_within_the_claim",
    ),
    _one(
        "every part gets the whole budget",
        "diffprivlib #104: two statistics share one slice of the budget",
        "sandbox.planning",
        "amounts.total * share",
        "amounts.total",
        "sandbox.the_cost_is_what_the_noise_loses",
    ),
    _one(
        "exact count under a noisy mean",
        "smartnoise-core #356, smartnoise-sdk #547: n taken for public",
        "sandbox.drawing",
        "            noisy[part] = _noised(one, exact[part] if shown is None else exact[part][shown], noise)",
        "            noisy[part] = exact[part] if part.role is Role.COUNT else _noised(one, exact[part] if shown is None else exact[part][shown], noise)",
        "sandbox.every_number_that_is_shown_went_through_noise",
    ),
    _one(
        "pays after the noise, and not for a failure",
        "refund on crash: answers before the ledger's fsync",
        "sandbox.handle",
        '        receipt = self._spend(planned.cost, f"query {planned.digest}", lineage, release_id)\n        table, failed = None, ""\n',
        '        self._answer(planned, source, alpha)\n        receipt = self._spend(planned.cost, f"query {planned.digest}", lineage, release_id)\n        table, failed = None, ""\n',
        "sandbox.the_loss_is_paid_before_noise_is_drawn",
    ),
    _one(
        "a repeated release draws new noise",
        "retries of a job; averaging attacks",
        "sandbox.handle",
        "        if not receipt.fresh:",
        "        if receipt is None:",
        "sandbox.a_release_is_drawn_once",
    ),
    _one(
        "an error tells a row's value",
        "Haeberlen, Pierce and Narayan 2011: failures as a channel",
        "sandbox.handle",
        "            failed = type(error).__name__",
        "            failed = str(error)",
        "sandbox.no_message_holds_a_value",
    ),
    _one(
        "threshold on the exact count",
        "Korolova et al. 2009: exact counts decide which keys are shown",
        "sandbox.drawing",
        "for code in np.flatnonzero(counts)}",
        "for code in np.flatnonzero(counts >= 2)}",
        "sandbox.unknown_keys_are_decided_by_noisy_counts_alone",
    ),
    _one(
        "keys without a customer are candidates",
        "keys that bounding emptied, shown by noise alone",
        "sandbox.drawing",
        "for code in np.flatnonzero(counts)}",
        "for code in range(counts.size)}",
        "sandbox.unknown_keys_are_decided_by_noisy_counts_alone",
    ),
    _one(
        "one salt for all releases",
        "seed reuse",
        "sandbox.handle",
        "prepared(planned, source, self._random_bytes(SALT_BYTES))",
        "prepared(planned, source, bytes(SALT_BYTES))",
        "sandbox.each_release_has_a_salt_of_its_own",
    ),
    _one(
        "facts of a column survive its redefinition",
        "opendp #2949",
        "sandbox.answering",
        "    if column in frame.raw:\n        return frame.source.kept",
        "    if True:\n        return frame.source.kept",
        "sandbox.a_derived_column_is_bounded_as_it_is_now",
    ),
)

_SPARSE: Final = tuple(
    _one(name, seen_in, "tests.privacy.mutants.sparse", old, new, "claims.sparse_vectors_keep_their_claim")
    for name, seen_in, old, new in (
        (
            "sparse vector, no noise on the answers",
            "Lyu et al. 2017, algorithm 5 (of Stoddard et al. 2014)",
            "noisy = answers + noise",
            "noisy = answers + 0 * noise",
        ),
        (
            "sparse vector, no cutoff",
            "Lyu et al. 2017, algorithm 6 (of Chen et al. 2015)",
            "    found[before >= cutoff] = np.nan\n",
            "    found[before < 0] = np.nan\n",
        ),
        (
            "sparse vector, noise does not grow with the cutoff",
            "Lyu et al. 2017, algorithm 4 (of Lee and Clifton 2014)",
            "2 * cutoff / half",
            "2 / half",
        ),
        (
            "sparse vector, one noise for all answers",
            "a threshold's noise reused as the answers'",
            "(draws, answers.size))",
            "(draws, 1)).repeat(answers.size, axis=1)",
        ),
    )
)

MUTANTS: Final = (*_BOUNDING, *_ACCOUNTING, *_LEDGER, *_STREAMS, *_SANDBOX, *_SPARSE)
