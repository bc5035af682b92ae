import { createRootRoute, createRoute, createRouter, Outlet, redirect } from '@tanstack/react-router';
import { NotFound } from './NotFound.tsx';
import { ReviewPage } from './review/ReviewPage.tsx';
import { SignedIn } from './session/SignedIn.tsx';

const root = createRootRoute({
  component: () => (
    <SignedIn>
      <Outlet />
    </SignedIn>
  ),
  notFoundComponent: NotFound,
});

const home = createRoute({
  getParentRoute: () => root,
  path: '/',
  beforeLoad: () => {
    throw redirect({ to: '/review', replace: true });
  },
});

const review = createRoute({ getParentRoute: () => root, path: '/review', component: ReviewPage });

export const router = createRouter({ routeTree: root.addChildren([home, review]) });

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
