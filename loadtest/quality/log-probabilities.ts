/** ln p of each token, from the logits, in float64. */
export function logProbabilities(logits: ArrayLike<number>): Float64Array {
  const shifted = Float64Array.from(logits);
  let most = Number.NEGATIVE_INFINITY;
  for (const logit of shifted) if (logit > most) most = logit;
  let sum = 0;
  for (const logit of shifted) sum += Math.exp(logit - most);
  const normalizer = most + Math.log(sum);
  for (let token = 0; token < shifted.length; token += 1) shifted[token]! -= normalizer;
  return shifted;
}
