/** The request as something to paste elsewhere. `url` is the server's, `hasKey` whether it wants one. */
export interface Snippet {
  readonly url: string;
  readonly body: Readonly<Record<string, unknown>>;
  readonly hasKey: boolean;
}

export const snippets = {
  curl({ url, body, hasKey }: Snippet): string {
    const lines = [
      `curl -N ${url}/v1/chat/completions`,
      `  -H 'content-type: application/json'`,
      ...(hasKey ? ['  -H "authorization: Bearer $TANDEM_API_KEY"'] : []),
      `  -d ${shellQuoted(JSON.stringify(body, null, 2))}`,
    ];
    return lines.join(' \\\n');
  },

  node({ url, body, hasKey }: Snippet): string {
    return `import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: ${JSON.stringify(`${url}/v1`)},
  apiKey: ${hasKey ? 'process.env.TANDEM_API_KEY' : "'none'"},
});
const stream = await client.chat.completions.create(${JSON.stringify(body, null, 2)});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? '');
`;
  },
} as const satisfies Record<string, (snippet: Snippet) => string>;

/** One word of a POSIX shell, whatever is in it. */
function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
