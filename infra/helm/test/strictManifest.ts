import { validate as httpRoute } from '@kubernetes-models/gateway-api/_schemas/IoK8sSigsGatewayApiApisV1HTTPRoute';
import { validate as deployment } from 'kubernetes-models/_schemas/IoK8sApiAppsV1Deployment';
import { validate as autoscaler } from 'kubernetes-models/_schemas/IoK8sApiAutoscalingV2HorizontalPodAutoscaler';
import { validate as job } from 'kubernetes-models/_schemas/IoK8sApiBatchV1Job';
import { validate as claim } from 'kubernetes-models/_schemas/IoK8sApiCoreV1PersistentVolumeClaim';
import { validate as service } from 'kubernetes-models/_schemas/IoK8sApiCoreV1Service';
import { validate as account } from 'kubernetes-models/_schemas/IoK8sApiCoreV1ServiceAccount';
import { validate as networkPolicy } from 'kubernetes-models/_schemas/IoK8sApiNetworkingV1NetworkPolicy';
import { validate as disruptionBudget } from 'kubernetes-models/_schemas/IoK8sApiPolicyV1PodDisruptionBudget';

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  readonly [field: string]: unknown;
}

/** Compiled from the API's published schemas; after a call its errors are a property of the function. */
type Validate = ((data: unknown) => boolean) & { errors?: readonly { instancePath: string; keyword: string }[] | null };

const VALIDATORS: Readonly<Record<string, Validate>> = {
  'apps/v1 Deployment': deployment,
  'autoscaling/v2 HorizontalPodAutoscaler': autoscaler,
  'batch/v1 Job': job,
  'gateway.networking.k8s.io/v1 HTTPRoute': httpRoute,
  'networking.k8s.io/v1 NetworkPolicy': networkPolicy,
  'policy/v1 PodDisruptionBudget': disruptionBudget,
  'v1 PersistentVolumeClaim': claim,
  'v1 Service': service,
  'v1 ServiceAccount': account,
};

/**
 * What is wrong with a manifest by the API's own schemas: wrong types, missing fields, and fields that the API does not
 * know, which the schemas by themselves let pass. A validator looks every field that it knows up by name, so a field
 * that it never looked at is unknown to it.
 */
export function manifestErrors(manifest: Manifest): string[] {
  const kind = `${manifest.apiVersion} ${manifest.kind}`;
  const validate = VALIDATORS[kind];
  if (!validate) return [`${kind}: no schema is known here`];
  const looked = new Map<object, Set<PropertyKey>>();
  if (!validate(watched(manifest, looked))) {
    return (validate.errors ?? []).map((error) => `${kind} ${error.instancePath}: ${error.keyword}`);
  }
  return unknownFields(manifest, looked, kind);
}

/** The value, with every lookup of a field noted under the object that holds it. */
function watched(value: object, looked: Map<object, Set<PropertyKey>>): object {
  const names = new Set<PropertyKey>();
  looked.set(value, names);
  return new Proxy(value, {
    get: (target, name) => {
      names.add(name);
      const field: unknown = Reflect.get(target, name);
      return typeof field === 'object' && field !== null ? watched(field, looked) : field;
    },
  });
}

function unknownFields(value: object, looked: ReadonlyMap<object, ReadonlySet<PropertyKey>>, path: string): string[] {
  return Object.entries(value).flatMap(([name, field]: [string, unknown]) => {
    const here = `${path}.${name}`;
    if (!looked.get(value)?.has(name)) return [`${here}: not a field of the API`];
    return typeof field === 'object' && field !== null ? unknownFields(field, looked, here) : [];
  });
}
