import { beforeAll, describe, expect, it } from 'vitest';
import { render, resolveHelm } from './helm.ts';
import { type Manifest, manifestErrors } from './strictManifest.ts';

const SERVICES = ['gateway', 'ingest', 'responses', 'rewards', 'datasets', 'trainer', 'scheduler', 'serve'];
const RESOLVE_TIMEOUT_MS = 1_300_000;

interface EnvVar {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: { readonly secretKeyRef: { readonly name: string; readonly key: string; optional?: boolean } };
}
interface Container {
  readonly image: string;
  readonly command: readonly string[];
  readonly env: readonly EnvVar[];
  readonly securityContext: unknown;
  readonly resources: { requests?: object; limits?: object };
  readonly [probe: string]: unknown;
}
interface PodSpec {
  readonly containers: readonly Container[];
  readonly securityContext: unknown;
  readonly automountServiceAccountToken: boolean;
  readonly volumes: readonly { name: string; persistentVolumeClaim?: { claimName: string } }[];
}
interface Template {
  readonly metadata: { readonly labels: Readonly<Record<string, string>> };
  readonly spec: PodSpec;
}

let helm = '';
beforeAll(async () => {
  helm = await resolveHelm();
}, RESOLVE_TIMEOUT_MS);

const ofKind = (manifests: readonly Manifest[], kind: string): Manifest[] => manifests.filter((m) => m.kind === kind);
const names = (manifests: readonly Manifest[], kind: string): string[] =>
  ofKind(manifests, kind)
    .map((m) => m.metadata.name)
    .toSorted();
const component = (manifest: Manifest): string => manifest.metadata.labels?.['app.kubernetes.io/component'] ?? '';
const templateOf = (manifest: Manifest): Template => (manifest.spec as { template: Template }).template;
const containerOf = (manifest: Manifest): Container => templateOf(manifest).spec.containers[0]!;
const envOf = (manifest: Manifest): Map<string, EnvVar> => new Map(containerOf(manifest).env.map((e) => [e.name, e]));

const FULL_APP = {
  'nats.existingSecret': 'tuneloop-nats',
  'nats.publicUrl': 'tls://nats.example.org:4222',
  'blobs.s3.existingSecret': 'tuneloop-s3',
  'blobs.s3.endpoint': 'https://s3.example.com',
  'upstream.baseUrl': 'https://models.example.com/v1',
  'upstream.existingSecret': 'upstream',
  'supabaseSignIn.url': 'https://x.supabase.co',
  'supabaseSignIn.existingSecret': 'supabase',
  'httpRoute.enabled': true,
  'httpRoute.parentRefs': [{ name: 'public', namespace: 'gateways', sectionName: 'https' }],
  'httpRoute.hostnames': ['tuneloop.example.com'],
  'networkPolicy.ingressFrom': [{ namespaceSelector: { matchLabels: { name: 'gateways' } } }],
  'networkPolicy.metricsFrom': [{ namespaceSelector: { matchLabels: { name: 'monitoring' } } }],
  'app.autoscaling.enabled': true,
  'app.tolerations': [{ key: 'gpu', operator: 'Exists' }],
  extraVolumes: [{ name: 'bases', persistentVolumeClaim: { claimName: 'bases' } }],
  extraVolumeMounts: [{ name: 'bases', mountPath: '/bases', readOnly: true }],
  imagePullSecrets: [{ name: 'registry' }],
  'serviceAccount.annotations': { 'example.com/role': 'tuneloop' },
};
const ALL_SERVICES = {
  topology: 'services',
  ...Object.fromEntries(SERVICES.map((name) => [`services.${name}.autoscaling.enabled`, true])),
};

describe('what is rendered', () => {
  it.each([
    ['app', {}],
    ['app, everything set', FULL_APP],
    ['app, local blobs', { 'blobs.store': 'local' }],
    ['services', { topology: 'services' }],
    ['services, everything set', { ...FULL_APP, ...ALL_SERVICES }],
    [
      'supabase blobs',
      {
        'blobs.store': 'supabase',
        'blobs.supabase.url': 'https://x.supabase.co',
        'blobs.supabase.existingSecret': 's',
      },
    ],
  ])('is valid by the schemas of the API, without unknown fields: %s', async (_case, values) => {
    const manifests = await render(helm, values);
    expect(manifests.flatMap(manifestErrors)).toEqual([]);
    const keys = manifests.map((m) => `${m.kind}/${m.metadata.name}`);
    expect(new Set(keys).size).toBe(keys.length);
    for (const workload of [...ofKind(manifests, 'Deployment'), ...ofKind(manifests, 'Job')]) {
      const given = containerOf(workload).env.map((e) => e.name);
      expect([...new Set(given)]).toEqual(given);
    }
  });

  it('would be told apart from something else: the check finds wrong types, missing and unknown fields', async () => {
    const [first] = ofKind(await render(helm), 'Deployment');
    const broken = (change: (spec: Record<string, unknown>) => void): string[] => {
      const copy = structuredClone(first!);
      change(
        (copy.spec as { template: { spec: { containers: Record<string, unknown>[] } } }).template.spec.containers[0]!,
      );
      return manifestErrors(copy);
    };
    expect(broken(() => undefined)).toEqual([]);
    expect(broken((container) => (container.comand = ['x']))).toEqual([
      'apps/v1 Deployment.spec.template.spec.containers.0.comand: not a field of the API',
    ]);
    expect(broken((container) => (container.command = 'x'))).not.toEqual([]);
    expect(broken((container) => delete container.name)).not.toEqual([]);
    expect(broken((container) => (container.livenessProbe = { httpGet: { path: '/', prot: 1, port: 1 } }))).toEqual([
      'apps/v1 Deployment.spec.template.spec.containers.0.livenessProbe.httpGet.prot: not a field of the API',
    ]);
  });
});

describe('every pod', () => {
  it.each([
    ['app', {}],
    ['services', { topology: 'services' }],
  ])('fits the restricted standard: %s', async (_case, values) => {
    const manifests = await render(helm, values);
    for (const workload of [...ofKind(manifests, 'Deployment'), ...ofKind(manifests, 'Job')]) {
      const { spec } = templateOf(workload);
      expect(spec.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
      expect(spec.automountServiceAccountToken).toBe(false);
      for (const container of spec.containers) {
        expect(container.securityContext).toEqual({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
        expect(container.resources).toMatchObject({
          requests: { memory: expect.any(String) },
          limits: { memory: expect.any(String) },
        });
      }
    }
    for (const deployment of ofKind(manifests, 'Deployment')) {
      for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
        expect(containerOf(deployment)).toHaveProperty(probe);
      }
    }
  });

  it('takes each credential from a Secret, and the administrator’s login goes to the migrations alone', async () => {
    const manifests = await render(helm, { ...FULL_APP, topology: 'services' });
    const secrets = [
      'TUNELOOP_SECRET',
      'DATABASE_URL',
      'NATS_CREDS',
      'NATS_ACCOUNT_SEED',
      'S3_ACCESS_KEY_ID',
      'S3_SECRET_ACCESS_KEY',
      'UPSTREAM_API_KEY',
      'SUPABASE_JWT_SECRET',
    ];
    const seen = new Set<string>();
    const databaseKeys: Record<string, string | undefined> = {};
    for (const workload of [...ofKind(manifests, 'Deployment'), ...ofKind(manifests, 'Job')]) {
      for (const [name, variable] of envOf(workload)) {
        if (!secrets.includes(name)) continue;
        seen.add(name);
        expect(variable).not.toHaveProperty('value');
        expect(variable.valueFrom?.secretKeyRef.name).not.toBe('');
      }
      databaseKeys[component(workload)] = envOf(workload).get('DATABASE_URL')?.valueFrom?.secretKeyRef.key;
    }
    const { migrate, serve, ...services } = databaseKeys;
    expect({ migrate, serve }).toEqual({ migrate: 'admin-url', serve: undefined });
    expect(new Set(Object.values(services))).toEqual(new Set(['url']));
    expect([...seen].toSorted()).toEqual(secrets.toSorted());
    expect(ofKind(manifests, 'Secret')).toEqual([]);
  });
});

describe('topology app', () => {
  it('is one deployment of one pod behind one service, without migrations of its own', async () => {
    const manifests = await render(helm);
    expect(names(manifests, 'Deployment')).toEqual(['r-tuneloop']);
    expect(names(manifests, 'Service')).toEqual(['r-tuneloop']);
    const [app] = ofKind(manifests, 'Deployment');
    expect(app!.spec).toMatchObject({ replicas: 1, strategy: { type: 'RollingUpdate' } });
    expect(containerOf(app!).command).toEqual(['tuneloop', 'up', '--no-migrate', '--data', '/var/lib/tuneloop']);
    expect(envOf(app!).has('SERVICE_URLS')).toBe(false);
    expect(names(manifests, 'HorizontalPodAutoscaler')).toEqual([]);
  });

  it('leaves the number of pods to the autoscaler', async () => {
    const manifests = await render(helm, FULL_APP);
    expect(ofKind(manifests, 'Deployment')[0]!.spec).not.toHaveProperty('replicas');
    expect(names(manifests, 'HorizontalPodAutoscaler')).toEqual(['r-tuneloop']);
  });

  it('keeps local blobs on a volume that one pod at a time holds and that outlives the release', async () => {
    const manifests = await render(helm, { 'blobs.store': 'local' });
    const [app] = ofKind(manifests, 'Deployment');
    const [claim] = ofKind(manifests, 'PersistentVolumeClaim');
    expect(app!.spec).toMatchObject({ strategy: { type: 'Recreate' } });
    expect(templateOf(app!).spec.volumes).toContainEqual({
      name: 'data',
      persistentVolumeClaim: { claimName: claim!.metadata.name },
    });
    expect(claim!.metadata).toMatchObject({ annotations: { 'helm.sh/resource-policy': 'keep' } });
    const own = await render(helm, { 'blobs.store': 'local', 'blobs.local.existingClaim': 'mine' });
    expect(names(own, 'PersistentVolumeClaim')).toEqual([]);
  });
});

describe('topology services', () => {
  it('gives every service and the model server a deployment, and every address leads to a service of the release', async () => {
    const manifests = await render(helm, { topology: 'services' });
    const deployments = ofKind(manifests, 'Deployment');
    expect(deployments.map(component).toSorted()).toEqual(SERVICES.toSorted());
    const ports = new Map(
      ofKind(manifests, 'Service').map((service) => [
        service.metadata.name,
        (service.spec as { ports: { port: number }[] }).ports[0]!.port,
      ]),
    );
    const addresses = deployments.flatMap((deployment) => {
      const env = envOf(deployment);
      const urls = Object.values(JSON.parse(env.get('SERVICE_URLS')?.value ?? '{}') as Record<string, string>);
      return [...urls, ...(env.get('SERVE_URL')?.value === undefined ? [] : [env.get('SERVE_URL')!.value!])];
    });
    expect(new Set(addresses).size).toBe(SERVICES.length);
    expect(
      addresses.filter((address) => ports.get(new URL(address).hostname) !== Number(new URL(address).port || 80)),
    ).toEqual([]);
    for (const deployment of deployments) {
      const main =
        component(deployment) === 'serve'
          ? 'services/responses/src/serve/main.ts'
          : `services/${component(deployment)}/src/main.ts`;
      expect(containerOf(deployment).command).toEqual(['node', main]);
    }
  });

  it('selects with each service, budget and autoscaler exactly the pods of one deployment', async () => {
    const manifests = await render(helm, ALL_SERVICES);
    const pods = ofKind(manifests, 'Deployment').map((deployment) => ({
      name: deployment.metadata.name,
      labels: templateOf(deployment).metadata.labels,
    }));
    const selected = (selector: Readonly<Record<string, string>>): string[] =>
      pods
        .filter(({ labels }) => Object.entries(selector).every(([key, value]) => labels[key] === value))
        .map(({ name }) => name);
    for (const service of ofKind(manifests, 'Service')) {
      expect(selected((service.spec as { selector: Record<string, string> }).selector)).toEqual([
        service.metadata.name,
      ]);
    }
    for (const budget of ofKind(manifests, 'PodDisruptionBudget')) {
      const { matchLabels } = (budget.spec as { selector: { matchLabels: Record<string, string> } }).selector;
      expect(selected(matchLabels)).toEqual([budget.metadata.name]);
    }
    expect(names(manifests, 'HorizontalPodAutoscaler')).toEqual(names(manifests, 'Deployment'));
    expect(names(manifests, 'PodDisruptionBudget')).toEqual(names(manifests, 'Deployment'));
  });

  it('lets only the gateway be reached from outside the release', async () => {
    const manifests = await render(helm, { topology: 'services' });
    const policies = ofKind(manifests, 'NetworkPolicy').map(
      (m) => m.spec as { podSelector: { matchLabels: Record<string, string> }; ingress: { from?: unknown[] }[] },
    );
    const open = policies.filter(({ ingress }) => ingress.some(({ from }) => from === undefined));
    expect(open.map(({ podSelector }) => podSelector.matchLabels['app.kubernetes.io/component'])).toEqual(['gateway']);
    expect(policies.some(({ podSelector }) => !('app.kubernetes.io/component' in podSelector.matchLabels))).toBe(true);
  });

  it('lets a variable of the operator’s stand in for the chart’s', async () => {
    const manifests = await render(helm, {
      topology: 'services',
      extraEnv: [{ name: 'LOG_LEVEL', value: 'warn' }],
      'services.trainer.extraEnv': [
        { name: 'LOG_LEVEL', value: 'debug' },
        { name: 'TRAINER_THREADS', value: '4' },
      ],
    });
    const level = (name: string): string | undefined =>
      envOf(ofKind(manifests, 'Deployment').find((d) => component(d) === name)!).get('LOG_LEVEL')?.value;
    expect([level('trainer'), level('rewards')]).toEqual(['debug', 'warn']);
  });
});

describe('migrations', () => {
  it('run as a hook before an install and an upgrade, in a pod that no service selects', async () => {
    const [job] = ofKind(await render(helm), 'Job');
    expect(job!.metadata).toMatchObject({ annotations: { 'helm.sh/hook': 'pre-install,pre-upgrade' } });
    expect(containerOf(job!).command).toEqual(['tuneloop', 'migrate']);
    expect(templateOf(job!).spec).not.toHaveProperty('serviceAccountName');
    expect(ofKind(await render(helm, { 'migrations.enabled': false }), 'Job')).toEqual([]);
  });
});

describe('values that cannot work are refused with the fix', () => {
  it.each([
    [
      { topology: 'services', 'blobs.store': 'local' },
      /blobs\.store=local with topology=services: .*set blobs\.store to s3/,
    ],
    [{ 'app.replicas': 2, 'blobs.store': 'local' }, /blobs\.store=local with app\.replicas=2/],
    [{ 'app.autoscaling.enabled': true, 'blobs.store': 'local' }, /blobs\.store=local with app\.autoscaling\.enabled/],
    [{ 'image.repository': '' }, /image\.repository is required/],
    [{ 'secret.existingSecret': '' }, /secret\.existingSecret is required: kubectl create secret/],
    [{ 'database.existingSecret': '' }, /database\.existingSecret is required/],
    [{ 'nats.url': '' }, /nats\.url is required/],
    [{ 'nats.url': 'http://x' }, /nats\/url/],
    [{ 'blobs.s3.bucket': '' }, /blobs\.s3\.bucket is required/],
    [{ 'blobs.store': 'supabase' }, /blobs\.supabase\.url and blobs\.supabase\.existingSecret are required/],
    [{ 'httpRoute.enabled': true }, /httpRoute\.parentRefs is required/],
    [{ 'app.replica': 2 }, /additional properties 'replica' not allowed/],
    [{ models: [] }, /models must name at least one/],
    [{ 'app.replicas': 'two' }, /got string, want integer/],
  ])('%j', async (values, message) => {
    await expect(render(helm, values)).rejects.toThrow(message);
  });
});
