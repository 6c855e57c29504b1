/** Colours of the series, in the light and in the dark. Told apart also by those who see red and green alike. */
const colors = [
  ['#0b62c4', '#5aa9ff'],
  ['#d0480a', '#ff9457'],
  ['#128a5c', '#3ecf95'],
  ['#8a3fc4', '#c493ff'],
  ['#b3277d', '#ff7fc3'],
  ['#8a6a00', '#e3b62e'],
  ['#4b5b6b', '#a9bac9'],
  ['#00819c', '#43cfe8'],
  ['#a02020', '#ff8080'],
  ['#567a00', '#b3dd3c'],
] as const;

export const colorCount = colors.length;

const variables = (theme: 0 | 1) => colors.map((pair, index) => `--c${index}:${pair[theme]}`).join(';');

export const style = `
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--ink:#1b2430;--soft:#5b6776;--rule:#e1e5ea;--good:#e6f4ec;${variables(0)}}
@media (prefers-color-scheme:dark){:root{--paper:#11151b;--card:#191f27;--ink:#e4e9ef;--soft:#98a5b3;--rule:#2b333e;--good:#173527;${variables(1)}}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1240px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:27px;line-height:1.2;margin:0 0 6px;letter-spacing:-0.01em}
h2{font-size:19px;margin:38px 0 12px}
p{margin:0 0 10px;max-width:80ch}
.soft,figcaption{color:var(--soft)}
figcaption b{color:var(--ink);display:block;font-size:15.5px}
code{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,monospace;overflow-wrap:anywhere}
.command{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 14px;margin:14px 0}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,460px),1fr));gap:18px}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:16px 18px 10px;font-size:13.5px}
svg{display:block;width:100%;height:auto}
.grid{stroke:var(--rule)}
.axis,.notch{stroke:var(--soft)}
.tick,.label{fill:var(--soft);font-size:11.5px}
.name{fill:var(--ink);font-size:12px}
.bars{margin-top:12px}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.bound{stroke:var(--ink);stroke-dasharray:5 4;opacity:.55}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;margin:8px 0 4px;color:var(--ink)}
.key{display:inline-flex;align-items:center;gap:6px}
.key i{width:14px;height:3px;border-radius:2px}
${colors.map((_, index) => `.line.c${index}{stroke:var(--c${index})}circle.c${index},rect.c${index}{fill:var(--c${index})}i.c${index}{background:var(--c${index})}`).join('\n')}
.figures+p{margin:18px 0 8px}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:10px}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{padding:6px 12px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
th{color:var(--soft);font-weight:600}
th:first-child,td:first-child{text-align:left}
tr:last-child td{border-bottom:0}
tr.first td{border-top:2px solid var(--rule)}
td.best{background:var(--good);font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:0}
dt{color:var(--soft)}
dd{margin:0}
`;
