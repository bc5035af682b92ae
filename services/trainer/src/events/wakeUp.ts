/** Tells the pools that due work was committed; without it they find it at their next poll. */
export interface WakeUp {
  wakeTraining(): void;
  wakeEvaluation(): void;
}
