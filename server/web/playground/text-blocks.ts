/** A piece of an answer: running text, or what stands in a fence of three backticks. */
export interface TextBlock {
  readonly kind: 'text' | 'code';
  readonly text: string;
  /** What the fence says of its language. */
  readonly language: string;
}

/** Parts an answer into text and code. A fence that is not closed yet goes to the end, as it does while it streams. */
export function textBlocks(answer: string): TextBlock[] {
  const blocks: TextBlock[] = [];
  let lines: string[] = [];
  let language: string | undefined;
  const flush = (): void => {
    const text = lines.join('\n');
    if (text !== '' || language !== undefined) {
      blocks.push({ kind: language === undefined ? 'text' : 'code', text, language: language ?? '' });
    }
    lines = [];
  };
  for (const line of answer.split('\n')) {
    const fence = /^\s{0,3}```([^`]*)$/.exec(line);
    if (!fence) {
      lines.push(line);
      continue;
    }
    flush();
    language = language === undefined ? fence[1]!.trim() : undefined;
  }
  flush();
  return blocks;
}
