/** Tokens of a page; a block of memory is the pages of all layers for as many tokens. Native code has it as `kPageTokens`. */
export const pageTokens = 32;
