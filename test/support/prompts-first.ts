/**
 * Of an engine in tests of what happens when memory is short. `nexus` reads prompts beside answers by what it measures of the
 * machine, so that on some machines an answer is over before the next one has grown; here all have begun when the first goes on.
 */
export const promptsFirst = { scheduler: 'prefill-first' } as const;
