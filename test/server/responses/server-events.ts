export interface WireEvent {
  readonly type: string;
  readonly sequence_number: number;
  readonly [field: string]: unknown;
}

/** The events of a whole stream; the name of each must be its type, and the last must be `[DONE]`. */
export function eventsOf(stream: string): WireEvent[] {
  const blocks = stream.split('\n\n');
  if (blocks.pop() !== '' || blocks.pop() !== 'data: [DONE]') throw new Error('the stream has no proper end');
  return blocks.map((block) => {
    const [, name, json] = /^event: (\S+)\ndata: (.*)$/.exec(block) ?? [];
    const event = JSON.parse(json ?? 'null') as WireEvent | null;
    if (event === null || event.type !== name) throw new Error(`not an event: ${block}`);
    return event;
  });
}
