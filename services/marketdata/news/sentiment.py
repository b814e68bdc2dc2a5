"""The sentiment of a headline, from -1 to 1: VADER, whose lexicon is extended by the words of finance.

VADER was made for social media, in English. Its words that mean something else on the market are left out.
Phrases become one word before they are looked up. The score says how a headline sounds. It does not know whether the
news was expected, about which of several companies it is, or what is said in another language.
"""

import re
from collections.abc import Mapping
from functools import cache

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-untyped]

#: Neutral on the market: shares, gross margin, a vice president, crude oil, interest, a bull market.
NEUTRAL = (
    "share", "shares", "shared", "sharing", "gross", "vice", "crude", "interest", "interests", "interested", "trust",
    "trusts", "fed", "tank", "tanks", "mine", "mines", "cancer", "energy", "security", "securities", "united",
    "capital", "credit", "like", "liability", "liabilities", "debt", "debts", "tax", "arrest", "bull", "bear", "novel",
    "grand", "great", "fine", "play", "plays", "no", "please", "well", "best", "top", "matter", "matters", "treasury",
    "treasure", "party", "value", "values", "dear", "charge", "charges", "charged",
)  # fmt: skip
#: Words and phrases with their weights, from -4 to 4.
FINANCE: Mapping[str, float] = {
    "beat": 2.2, "beats": 2.2, "tops": 1.8, "exceeds": 1.8, "outperform": 2.0, "outperforms": 2.0,
    "upgrade": 2.3, "upgraded": 2.3, "upgrades": 2.3, "raises": 1.2, "raised": 1.2, "hikes": 0.8,
    "buyback": 1.8, "buybacks": 1.8, "repurchase": 1.4, "dividend": 0.7, "record": 1.2, "rally": 2.0, "rallies": 2.0,
    "surge": 2.2, "surges": 2.4, "surged": 2.2, "soar": 2.5, "soars": 2.6, "soared": 2.4, "jumps": 1.9, "jumped": 1.7,
    "climbs": 1.4, "gains": 1.6, "rises": 1.2, "rebounds": 1.6, "bullish": 2.3, "breakthrough": 2.2, "profitable": 1.9,
    "approval": 1.7, "approves": 1.5, "accretive": 1.4, "overweight": 1.3, "undervalued": 1.2,
    "miss": -2.2, "misses": -2.3, "missed": -2.1, "downgrade": -2.4, "downgraded": -2.4, "downgrades": -2.4,
    "underperform": -2.0, "underperforms": -2.0, "underweight": -1.4, "cuts": -1.4, "slashes": -2.2, "slashed": -2.1,
    "plunge": -2.7, "plunges": -2.9, "plunged": -2.7, "tumbles": -2.5, "tumbled": -2.3, "sinks": -2.2, "slumps": -2.3,
    "slides": -1.7, "falls": -1.4, "fell": -1.3, "drops": -1.5, "plummets": -2.9, "crashes": -3.1, "selloff": -2.2,
    "bankruptcy": -3.6, "bankrupt": -3.6, "insolvency": -3.5, "insolvent": -3.5, "default": -2.8, "defaults": -2.9,
    "delisted": -3.0, "delisting": -2.8, "recall": -2.2, "recalls": -2.3, "recalled": -2.1, "probe": -2.2,
    "probes": -2.1, "investigation": -2.0, "investigates": -1.9, "subpoena": -2.4, "lawsuit": -2.0, "lawsuits": -2.0,
    "sues": -1.8, "sued": -1.9, "fraud": -3.3, "fraudulent": -3.2, "indicted": -3.2, "indictment": -3.1,
    "restates": -2.4, "restatement": -2.5, "writedown": -2.3, "impairment": -2.1, "layoffs": -1.9, "layoff": -1.9,
    "shutdown": -1.8, "halted": -1.4, "bearish": -2.2, "warns": -2.0, "warning": -1.9, "shortfall": -2.1,
    "dilution": -1.6, "dilutive": -1.6, "breach": -2.0, "hacked": -2.5, "outage": -1.6, "resigns": -1.2,
    "ousted": -1.9, "overvalued": -1.3, "tariffs": -1.0, "antitrust": -1.4, "fined": -2.2, "penalty": -1.9,
    "guidance_cut": -3.0, "guidance_raised": 2.7, "profit_warning": -3.0, "chapter_11": -3.6, "going_concern": -3.0,
    "going_public": 0.6, "short_seller": -1.8, "beats_estimates": 2.8, "misses_estimates": -2.8, "record_high": 2.4,
    "record_low": -2.4, "price_target_raised": 1.9, "price_target_cut": -1.9, "dividend_cut": -2.7,
    "dividend_raised": 2.2, "job_cuts": -1.8, "credit_downgrade": -2.7, "class_action": -2.1, "stock_split": 0.5,
    "fda_approval": 2.7, "fda_rejection": -2.9, "takeover_bid": 1.5, "loss_narrows": 1.2, "loss_widens": -2.2,
}  # fmt: skip
_ESTIMATES = r"(?:analysts?'? |wall street(?:'s)? |street )?(?:estimates?|expectations?|forecasts?|views?)"
_OUTLOOK = r"(?:full-year |annual |profit |sales |revenue |earnings )?(?:guidance|outlook|forecasts?)"
_CUTS, _RAISES = r"(?:cuts?|lowers?|slash(?:es|ed)?|reduces?)", r"(?:raises?|lifts?|boosts?|hikes?)"
#: Ways to write a phrase.
PHRASES: Mapping[str, str] = {
    "guidance_cut": rf"{_CUTS} (?:its |the )?{_OUTLOOK}|{_OUTLOOK} (?:is )?(?:cut|lowered)",
    "guidance_raised": rf"{_RAISES} (?:its |the )?{_OUTLOOK}|{_OUTLOOK} (?:is )?(?:raised|lifted)",
    "beats_estimates": rf"(?:beats?|tops?|exceeds?|above) {_ESTIMATES}|(?:earnings|revenue|profit) beat",
    "misses_estimates": rf"(?:miss(?:es|ed)?|below|short of) {_ESTIMATES}|(?:earnings|revenue|profit) miss",
    "profit_warning": r"profit warning|warns (?:on|of|about) (?:lower )?(?:profits?|earnings|sales)",
    "chapter_11": r"chapter (?:11|7)|files? for (?:bankruptcy|creditor) protection|files? for bankruptcy",
    "going_concern": r"going[- ]concern",
    "going_public": r"going public",
    "short_seller": r"short[- ]sellers?",
    "record_high": r"(?:record|all-time|52-week) highs?",
    "record_low": r"(?:record|all-time|52-week) lows?",
    "price_target_raised": r"(?:raises?|lifts?|hikes?) (?:its )?(?:price )?target|target (?:price )?raised",
    "price_target_cut": r"(?:cuts?|lowers?) (?:its )?(?:price )?target|target (?:price )?(?:cut|lowered)",
    "dividend_cut": r"(?:cuts?|suspends?|scraps?|slash(?:es)?) (?:its |the )?(?:quarterly )?dividend|dividend cut",
    "dividend_raised": r"(?:raises?|lifts?|hikes?|boosts?) (?:its |the )?(?:quarterly )?dividend|dividend hike",
    "job_cuts": r"job cuts|(?:cuts?|lays? off|slash(?:es)?) [\d,.]+ (?:jobs|workers|employees|staff)",
    "credit_downgrade": r"(?:credit|rating) downgraded?|cut to junk",
    "class_action": r"class[- ]action",
    "stock_split": r"stock split",
    "fda_approval": r"fda approv(?:al|es|ed)",
    "fda_rejection": r"fda reject(?:ion|s|ed)|complete response letter",
    "takeover_bid": r"takeover (?:bid|offer)|to be acquired",
    "loss_narrows": r"(?:loss|losses) narrow(?:s|ed)?|narrower loss",
    "loss_widens": r"(?:loss|losses) widen(?:s|ed)?|wider loss",
}
_PHRASES = [(name, re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE)) for name, pattern in PHRASES.items()]


def score(title: str, summary: str = "") -> float:
    """Return the sentiment of the title, and only if that is neutral, half of that of the summary."""
    return _score(title) or round(_score(summary) / 2, 4)


def _score(text: str) -> float:
    for name, pattern in _PHRASES:
        text = pattern.sub(name, text)
    found: float = _analyzer().polarity_scores(text)["compound"] if text else 0.0
    return max(-1.0, min(1.0, found))


@cache
def _analyzer() -> SentimentIntensityAnalyzer:
    analyzer = SentimentIntensityAnalyzer()
    for word in NEUTRAL:
        analyzer.lexicon.pop(word, None)
    analyzer.lexicon.update(FINANCE)
    return analyzer
