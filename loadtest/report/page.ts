import type { Origin } from '../rows.js';
import { escapeHtml } from './chart.js';
import { style } from './style.js';

export interface Page {
  readonly title: string;
  /** One sentence on what the figures are, as HTML. */
  readonly about: string;
  /** What stands below the command, as HTML. */
  readonly body: string;
}

/** One HTML file that needs no other, readable in the light and in the dark, with the command that made it. */
export function renderPage({ title, about, body }: Page, { command, commit, date }: Origin): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>${escapeHtml(title)}</h1>
<p class="soft">${about}</p>
<div class="command"><code>${escapeHtml(command)}</code><br>
<span class="soft">commit ${escapeHtml(commit)}, ${escapeHtml(date.slice(0, 16).replace('T', ' '))} UTC</span></div>
${body}
</main>
</body>
</html>
`;
}
