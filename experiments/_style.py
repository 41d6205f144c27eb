"""How the pages of the gallery look: one style sheet, written into each of them."""

CSS = """
:root { color-scheme: light dark; --text: #1a1a1a; --page: #fff; --soft: #f4f4f2; --line: #d5d5d0;
  --faint: #595959; --link: #00588a; --holds: #00674b; --fails: #a63f00; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e6e3; --page: #17191c; --soft: #22252a;
  --line: #43474e; --faint: #aaadb2; --link: #7cc4f5; --holds: #5fd1a7; --fails: #ff9d66; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto;
  padding: .6rem 1rem 3rem; color: var(--text); background: var(--page);
  overflow-wrap: break-word; }
a { color: var(--link); } a:focus-visible, summary:focus-visible, [tabindex]:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px; }
h1 { font-size: clamp(1.3rem, 1rem + 1.6vw, 2rem); line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; } h3 { font-size: 1rem; margin: 0; }
p { margin: .4rem 0; max-width: 48rem; }
nav { font-size: .9rem; } nav ul { list-style: none; margin: 0; padding: 0; display: flex;
  flex-wrap: wrap; gap: .2rem 1rem; } nav li { min-height: 1.7rem; }
.verdict { font-weight: 600; } .holds { color: var(--holds); } .differs { color: var(--link); }
.fails, .error, .unreadable { color: var(--fails); } .missing, .silent, .counts, .place {
  color: var(--faint); }
.counts, .place, figcaption { font-size: .87rem; font-weight: 400; }
.notes { border-left: 4px solid var(--fails); padding: .2rem .8rem; background: var(--soft); }
.cards { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 16.5rem), 1fr)); }
.card { position: relative; border: 1px solid var(--line); border-radius: 6px; padding: .8rem;
  display: flex; flex-direction: column; gap: .4rem; background: var(--soft); }
.card:hover { border-color: var(--link); } .card h3 a { text-decoration: none; }
.card h3 a:hover { text-decoration: underline; }
.card h3 a::after { content: ""; position: absolute; inset: 0; }
.card picture, .card .blank { order: -1; }
.card img { width: 100%; height: 11rem; object-fit: contain; }
.card .blank { height: 11rem; display: grid; place-items: center; border: 1px dashed var(--line); }
.card p { margin: 0; }
img { max-width: 100%; height: auto; border-radius: 3px; }
.large img { width: 100rem; max-width: none; background: #fff; }
figure { margin: 0 0 1rem; min-width: 0; } figcaption { color: var(--faint); }
.beside > div { min-width: 0; } .beside h2:first-child { margin-top: .2rem; }
.beside h2 { margin-top: 1rem; font-size: 1.05rem; }
@media (min-width: 60rem) { .beside { display: grid; gap: 0 2rem; align-items: start;
  grid-template-columns: 3fr 2fr; grid-template-rows: auto 1fr; }
  .beside .text { grid-column: 2; grid-row: 1 / span 2; } }
.claims { list-style: none; margin: 0; padding: 0; }
.claims li { border-top: 1px solid var(--line); padding: .45rem 0; }
.claims .numbers { font-size: .92rem; font-variant-numeric: tabular-nums; }
.claims .main { border-left: 4px solid var(--link); padding-left: .6rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem;
  border-bottom: 1px solid var(--line); }
td.text, td.verdict { min-width: 14rem; font-weight: 400; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
@media (max-width: 40rem) { thead { display: none; } tr, td { display: block; }
  tbody tr { border-bottom: 1px solid var(--line); padding: .4rem 0; }
  td, td.number { border: 0; padding: .1rem 0; text-align: left; white-space: normal; }
  td:empty { display: none; }
  td[data-label]::before { content: attr(data-label) " "; color: var(--faint); } }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; padding: .2rem 0; }
code, pre { font-size: .87em; } pre { overflow-x: auto; background: var(--soft); padding: .8rem;
  border-radius: 4px; }
.turn { display: flex; justify-content: space-between; gap: 1rem; flex-wrap: wrap;
  border-top: 1px solid var(--line); margin-top: 2rem; padding-top: .8rem; }
.turn a { max-width: 30rem; }
"""
