/** 24 days: a timer that is set for longer goes off at once. */
export const longestTimerMs = 2 ** 31 - 1;
