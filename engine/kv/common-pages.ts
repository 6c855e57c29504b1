/** Tokens of the whole pages in which two sequences begin alike. */
export function commonPages(a: Int32Array, b: Int32Array, pageTokens: number): number {
  const most = Math.min(a.length, b.length);
  let common = 0;
  while (common < most && a[common] === b[common]) common++;
  return common - (common % pageTokens);
}
