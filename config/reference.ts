import { defaultText, type Option, options } from './options.js';

const sectionTitles: Record<string, string> = {
  model: 'Model',
  engine: 'Engine',
  server: 'Server',
  log: 'Log',
};

/** The whole of docs/configuration.md; `npm run docs` writes it. */
export function renderReference(): string {
  const sections = [...new Set(options.map(({ section }) => section))];
  return `${preamble}\n${sections.map(renderSection).join('\n')}`;
}

const preamble = `# Configuration

<!-- Made by \`npm run docs\` from config/schema.ts: change it there. -->

Every setting can be given in three ways. The first one that is there wins:

1. a flag: \`tandem serve --max-sequences 16\`
2. an environment variable: \`TANDEM_MAX_SEQUENCES=16\`
3. a file: \`tandem.config.json\` in the working folder, or the one named by \`--config FILE\` or \`TANDEM_CONFIG\`:

\`\`\`json
{ "engine": { "maxSequences": 16 }, "server": { "port": 9000 } }
\`\`\`

\`tandem serve --print-config\` shows what would run and where each value came from, and starts nothing. A key or
value that is not valid is refused at start with the nearest valid one.

- Bytes are a number or a text with a unit: \`1073741824\`, \`512MiB\`, \`4GB\` (KiB, MiB, GiB count in 1024, KB, MB, GB
  in 1000; K, M, G are KiB, MiB, GiB).
- A switch is \`--name\` or \`--no-name\`; in the environment \`true\` or \`false\`.
- A list is a flag given several times or with commas; in a file it is an array.
- A relative path starts at the working folder; in a file at the file's own folder.
`;

function renderSection(section: string): string {
  const rows = options.filter((option) => option.section === section).map(renderRow);
  return [
    `## ${sectionTitles[section] ?? section}`,
    '',
    '| key | flag | environment | default | meaning |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n');
}

function renderRow(option: Option): string {
  const flag = option.type === 'boolean' && option.default ? `--no-${option.flag}` : `--${option.flag}`;
  const cells = [
    `\`${option.key}\``,
    `\`${flag}\``,
    `\`${option.env}\``,
    defaultText(option) ?? '-',
    `${option.description}${renderRange(option)}`,
  ];
  return `| ${cells.join(' | ')} |`;
}

function renderRange(option: Option): string {
  if (option.choices.length > 0) return ` (${option.choices.map((choice) => `\`${choice}\``).join(', ')})`;
  const { minimum, maximum } = option;
  if (minimum !== undefined && maximum !== undefined) return ` (${minimum} to ${maximum})`;
  return minimum !== undefined && minimum > 0 ? ` (at least ${minimum})` : '';
}
