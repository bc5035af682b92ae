import type { ReactNode } from 'react';
import { useSession } from './key.ts';
import { SignIn } from './SignIn.tsx';

/** Shows its children to whoever has a key, the sign-in page to the rest. */
export function SignedIn({ children }: { children: ReactNode }) {
  const { key, refused } = useSession();
  return key === null ? <SignIn refused={refused} /> : children;
}
