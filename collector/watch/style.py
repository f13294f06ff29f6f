"""The style of the page for people: one sheet, no asset from elsewhere, readable on a phone and in the dark."""

STYLE = """
:root{color-scheme:light dark;--ground:#f4f6f8;--card:#fff;--ink:#1b2430;--soft:#566173;--line:#e2e6eb;
--bar:#3b76d0;--ok:#157347;--standby:#3a5fb0;--starting:#5a6472;--bad:#b3261e;--cut:#935a00}
@media(prefers-color-scheme:dark){:root{--ground:#11151a;--card:#191f26;--ink:#e4e8ee;--soft:#9ba6b5;--line:#2a323c;
--bar:#6c9fe8;--ok:#55c08a;--standby:#8fb0f5;--starting:#a5afbc;--bad:#ff8a80;--cut:#e5b04f}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
font-variant-numeric:tabular-nums;overflow-wrap:break-word}
li,.name,td .soft{overflow-wrap:anywhere}
header,main,footer{max-width:60rem;margin:0 auto;padding:0 1.25rem}
header{display:flex;align-items:baseline;justify-content:space-between;flex-wrap:wrap;gap:0 1rem;white-space:nowrap;
padding-top:1.5rem;padding-bottom:.75rem}
h1{font-size:1.05rem;font-weight:650;margin:0}
h2{font-size:.95rem;font-weight:650;margin:0 0 .6rem}
p,ul,dl,figure{margin:0}
header span,footer,.note,.soft{color:var(--soft);font-size:.87rem}
main{display:grid;gap:1rem;grid-template-columns:repeat(2,minmax(0,1fr))}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.1rem 1.25rem;
grid-column:1/-1;min-width:0}
.half{grid-column:auto}
.state{display:flex;gap:1rem;border-left:5px solid var(--tone)}
.state svg{flex:none;width:2.5rem;height:2.5rem;color:var(--tone)}
.state h2{font-size:1.35rem;line-height:1.25;margin:0;color:var(--tone)}
.state ul{padding-left:1.1rem;margin-top:.5rem}
.state .left{margin-top:.6rem}
.ok{--tone:var(--ok)}.standby{--tone:var(--standby)}.starting{--tone:var(--starting)}.failing{--tone:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:1rem}
.tiles dt{color:var(--soft);font-size:.87rem}
.tiles dd{margin:0;font-size:1.45rem;font-weight:600;line-height:1.3}
.tiles small{display:block;font-size:.8rem;font-weight:400;color:var(--soft)}
.plots{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:1.25rem;margin-bottom:.6rem}
figcaption{font-size:.87rem;margin-bottom:.4rem}
figcaption b{display:block;font-weight:600}figcaption span{color:var(--soft)}
figure svg{display:block;width:100%;height:84px;border-bottom:1px solid var(--soft)}
.slot{fill:transparent}.bar{fill:var(--bar)}
g:hover .slot{fill:var(--line)}
.cut .bar{fill:var(--cut)}.failed .bar{fill:var(--bad)}.failed .slot{fill:var(--bad);opacity:.28}
.key::before{content:"";display:inline-block;width:.7em;height:.7em;border-radius:2px;margin:0 .35em 0 .8em}
.key.failed::before{background:var(--bad)}.key.cut::before{background:var(--cut)}
section>div{overflow-x:auto}.state>div{overflow:visible}
table{width:100%;border-collapse:collapse}
th,td{text-align:left;vertical-align:top;padding:.4rem .75rem .4rem 0;border-top:1px solid var(--line)}
th:last-child,td:last-child{padding-right:0}
thead th{border-top:0;padding-top:0;color:var(--soft);font-size:.87rem;font-weight:500}
tbody th{font-weight:500;white-space:nowrap}tbody .name{white-space:normal}
.number{text-align:right;white-space:nowrap}thead .number{white-space:normal}
.good{color:var(--ok);font-weight:600}.bad{color:var(--bad);font-weight:600}.warn{color:var(--cut);font-weight:600}
footer{padding-top:1rem;padding-bottom:2rem}
a{color:inherit}
@media(max-width:44rem){main,.plots{grid-template-columns:minmax(0,1fr)}.half{grid-column:1/-1}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}header,main,footer{padding-left:.8rem;padding-right:.8rem}
section{padding:.9rem 1rem}table{font-size:.85rem}th,td{padding-right:.4rem}.wide{display:none}}
@media(max-width:24rem){.cycles tr>:nth-child(3){display:none}}
"""
