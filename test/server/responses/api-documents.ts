import { existsSync } from 'node:fs';
import { Ajv } from 'ajv';
import { sharedJson, sharedPath } from '../../engine/model/shared-data.js';

const document = 'api/openresponses-openapi-2026-04-24.json';
const cases = 'api/openresponses_compliance_cases.json';

/** The public documents lie beside the project, not in it; tests that need them skip and say so where they are not. */
export const haveApiDocuments = existsSync(sharedPath(document)) && existsSync(sharedPath(cases));

export interface ComplianceCase {
  readonly id: string;
  readonly endpoint: string;
  readonly streaming: boolean;
  readonly request: Record<string, unknown>;
  readonly checks: readonly string[];
  readonly expectedStatuses?: readonly number[];
}

export const complianceCases = () => sharedJson<ComplianceCase[]>(cases);

interface Document {
  readonly components: { readonly schemas: Record<string, { properties?: { type?: { enum?: string[] } } }> };
}

/** What the Open Responses document says of a value; an empty list is approval. */
export class Schemas {
  readonly #ajv = new Ajv({ strict: false, allErrors: true });
  readonly #eventSchemas = new Map<string, string>();

  constructor() {
    const { components } = sharedJson<Document>(document);
    this.#ajv.addSchema({ $id: 'doc', components });
    for (const [name, { properties }] of Object.entries(components.schemas)) {
      const type = properties?.type?.enum?.[0];
      if (type !== undefined && name.endsWith('StreamingEvent')) this.#eventSchemas.set(type, name);
    }
  }

  faults(schema: string, value: unknown): string[] {
    const validate = this.#ajv.compile({ $ref: `doc#/components/schemas/${schema}` });
    if (validate(value)) return [];
    return (validate.errors ?? []).map(({ instancePath, message }) => `${schema}${instancePath}: ${message}`);
  }

  /** Of an event of a stream, by its type. */
  eventFaults(event: { readonly type: string }): string[] {
    const schema = this.#eventSchemas.get(event.type);
    return schema === undefined ? [`no event is called ${event.type}`] : this.faults(schema, event);
  }
}
