/**
 * Of an engine in tests that are not about sharing cores. Test files run beside each other, and a team of threads on as many
 * cores as there are waits for whoever else has one of them: three times as long as one thread alone takes.
 */
export const oneCore = { cores: 1 } as const;
