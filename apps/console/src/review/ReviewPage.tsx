import { useSession } from '../session/key.ts';
import { ReviewSitting } from './ReviewSitting.tsx';

export function ReviewPage() {
  const { key } = useSession();
  // Another key is another reviewer: nothing of the sitting carries over.
  return key === null ? null : <ReviewSitting key={key} accessKey={key} />;
}
