import fc from 'fast-check';

/**
 * The same cases in every run, so that what passes here passes elsewhere and what fails can be looked at. `FUZZ_SEED` chooses
 * others.
 */
export const seed = Number(process.env.FUZZ_SEED ?? 1);
fc.configureGlobal({ seed });

export default fc;
