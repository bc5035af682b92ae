/** Tells the pools of this process what was committed; without it they find it at their next look, within a second. */
export interface WakeUp {
  wakeTraining(): void;
}
