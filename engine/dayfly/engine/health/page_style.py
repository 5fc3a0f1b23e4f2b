"""The style of the page: light or dark as the reader's system is, without any file beside it."""

from typing import Final

__all__ = ["STYLE"]

STYLE: Final = """
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--ink:#1b2430;--faint:#5b6675;--rule:#dde2e8;--seen:#2f6fd0;
--lost:#c2410c;--good:#12805c;--bad:#b42318;--expected:#1b2430;--rest:#e6eaef;--area:#2f6fd026}
@media (prefers-color-scheme:dark){:root{--paper:#10151c;--card:#19212b;--ink:#e7ecf2;--faint:#9aa7b6;--rule:#2d3846;
--seen:#6ba3f5;--lost:#f0884d;--good:#4cc38a;--bad:#ff7a70;--expected:#e7ecf2;--rest:#2a3543;--area:#6ba3f533}}
*{box-sizing:border-box}
body{margin:0;padding:24px;background:var(--paper);color:var(--ink);font:15px/1.45 system-ui,"DejaVu Sans",sans-serif}
main,header{max-width:1120px;margin:0 auto}
header{display:flex;flex-wrap:wrap;gap:4px 16px;align-items:baseline}
h1{font-size:24px;margin:0}
h2{font-size:17px;margin:28px 0 10px}
h3{font-size:15px;margin:0 0 2px;overflow-wrap:anywhere}
p{margin:4px 0}
.faint,figcaption,th,dt{color:var(--faint)}
.state{font-weight:600;border:1.5px solid;border-radius:999px;padding:1px 12px}
.good{color:var(--good)}.bad{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(165px,1fr));gap:12px;margin:18px 0 0;padding:0}
.tile,.card{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:12px 14px;margin:0}
.tile dd{margin:0;font-size:23px;font-weight:600;font-variant-numeric:tabular-nums}
.tile dt{font-size:13px}.tile .faint{font-size:13px;font-weight:400}
.grid2{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,480px),1fr));gap:12px}
.attention{list-style:none;margin:14px 0 0;padding:0}
.attention li{background:var(--card);border:1px solid var(--rule);border-left:5px solid var(--bad);border-radius:8px;
padding:8px 14px;margin:0 0 8px}
.attention li.good{border-left-color:var(--good)}
.attention b{color:var(--bad)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:4px 10px 4px 0;border-bottom:1px solid var(--rule);vertical-align:middle;overflow-wrap:anywhere}
th{font-weight:400;font-size:13px}tr:last-child td{border-bottom:0}
td.number,th.number{text-align:right;white-space:nowrap}
td.bar{width:38%;min-width:110px}
td:first-child{min-width:7em}
.legend{color:var(--faint);font-size:14px;font-weight:400}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:8px 24px}
.facts dt{font-size:13px}.facts dd{margin:0;overflow-wrap:anywhere}
figcaption{font-size:13px;margin-top:4px}
svg.chart{display:block;width:100%;height:auto;margin-top:6px}
svg.share{display:block;width:100%;height:12px;border-radius:3px}
svg .seen,.key.seen{fill:var(--seen);background:var(--seen)}
svg .lost,.key.lost{fill:var(--lost);background:var(--lost)}
svg .rest{fill:var(--rest)}
svg .grid{stroke:var(--rule);fill:none}
svg .expected{stroke:var(--expected);stroke-width:2;fill:none}
svg .line{stroke:var(--seen);stroke-width:2;fill:none}
svg .area{fill:var(--area)}svg .now{fill:var(--seen)}
svg .tick{fill:var(--faint);font-size:11px}
.key{display:inline-block;width:11px;height:11px;border-radius:2px;margin:0 5px 0 12px}
.key.expected{height:3px;background:var(--expected);vertical-align:middle}
"""
