/** The data of each event of a stream, without those that are empty. */
export async function* eventData(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + decoder.decode(value, { stream: true })).split('\n\n');
      rest = blocks.pop()!;
      for (const block of blocks) {
        const lines = block.split('\n').filter((line) => line.startsWith('data:'));
        const data = lines.map((line) => line.slice('data:'.length).trimStart()).join('\n');
        if (data !== '') yield data;
      }
    }
  } finally {
    // Also when whoever reads has had enough: the server learns of it.
    await reader.cancel().catch(() => undefined);
  }
}
