/** From a run's options to its tasks: each method's examples checked and laid out. */
import { EngineError } from '../errors.ts';
import type { RewardHead, TrainerOptions } from '../types.ts';
import { checkPairs, dpoLossSpec, dpoTask } from './dpoTask.ts';
import { checkKto, ktoTask, ktoWeights } from './ktoTask.ts';
import { rewardTask } from './rewardTask.ts';
import { sftTask } from './sftTask.ts';
import type { Task } from './task.ts';

export interface Tasks {
  readonly task: Task;
  readonly evaluationTask: Task | undefined;
}

/**
 * @param head the head that a reward run trains
 * @throws EngineError `engine.train.*`, naming the example or the setting that cannot work
 */
export function createTasks(options: TrainerOptions, head?: RewardHead): Tasks {
  if (options.data.length === 0) throw new EngineError('engine.train.no_data', 'there is nothing to train on');
  switch (options.task) {
    case 'sft': {
      const { data, evaluation, hyper } = options;
      return { task: sftTask(data, hyper), evaluationTask: evaluation && sftTask(evaluation.data, hyper) };
    }
    case 'dpo': {
      const { data, evaluation, hyper } = options;
      checkPairs(data, hyper.maxLength);
      checkPairs(evaluation?.data ?? [], hyper.maxLength);
      const loss = dpoLossSpec(data, hyper.dpo);
      const evaluated = evaluation !== undefined && evaluation.data.length > 0;
      return { task: dpoTask(data, loss), evaluationTask: evaluated ? dpoTask(evaluation.data, loss) : undefined };
    }
    case 'reward': {
      const { data, evaluation, hyper } = options;
      if (head === undefined) throw new EngineError('engine.train.bad_hyper', 'a reward run needs a head');
      const task = rewardTask(data, head, hyper);
      if (evaluation === undefined || evaluation.data.length === 0) return { task, evaluationTask: undefined };
      const evaluationTask = rewardTask(evaluation.data, head, hyper);
      if (JSON.stringify(evaluationTask.loss) !== JSON.stringify(task.loss)) {
        throw new EngineError('engine.train.bad_example', 'evaluation data must be of the kind of the training data');
      }
      return { task, evaluationTask };
    }
    case 'kto': {
      const { data, evaluation, hyper } = options;
      checkKto(data, hyper);
      const weights = ktoWeights(data, hyper.kto);
      const evaluated = evaluation !== undefined && evaluation.data.length > 0;
      if (evaluated) checkKto(evaluation.data, hyper);
      return {
        task: ktoTask(data, hyper, weights),
        evaluationTask: evaluated ? ktoTask(evaluation.data, hyper, weights) : undefined,
      };
    }
  }
}
