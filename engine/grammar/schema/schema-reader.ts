import { GrammarError } from '../errors.js';
import { choice, nothing, type Pattern, rule, text } from '../pattern.js';
import { anchorsIn } from './anchors.js';
import { areApart } from './apart.js';
import { arrayPattern, objectPattern } from './containers.js';
import {
  isSchema,
  isSchemaObject,
  isUnsupported,
  type Path,
  type Schema,
  type SchemaObject,
  saysNothing,
  type TypeName,
  typeNames,
  typeOf,
} from './keywords.js';
import { both, same } from './merge.js';
import { listOf, type Reading } from './reading.js';
import { numberPattern, stringPattern } from './scalars.js';

const mostDepth = 64;

/**
 * Turns a JSON schema into patterns. Properties come in the order of the schema; those it does not name only where
 * `additionalProperties` is given. Throws `GrammarError` with the place of what is not a schema or, unless it is
 * `lenient`, of a keyword that cannot be enforced.
 */
export class SchemaReader implements Reading {
  /** Rules of what is referred to, by its place. */
  readonly #references = new Map<string, string>();
  #anchors: Map<string, string> | undefined;

  constructor(
    private readonly root: unknown,
    private readonly lenient: boolean,
    /** Takes the rules that the pattern calls, but for those of JSON. */
    private readonly rules: Map<string, Pattern>,
  ) {}

  read(): Pattern {
    return this.pattern(this.root, [], 0);
  }

  pattern(schema: unknown, path: Path, depth: number): Pattern {
    if (depth > mostDepth) throw new GrammarError(`schemas are nested up to ${mostDepth} deep`, path);
    if (!isSchema(schema)) throw new GrammarError('expected a schema: an object, true or false', path);
    if (schema === false) return nothing;
    if (schema === true || saysNothing(schema)) return rule('value');
    this.#refuse(schema, path);
    if (schema.$ref !== undefined) return this.#referring(schema, path, depth);
    if (schema.allOf !== undefined) return this.pattern(this.#allOf(schema, path), path, depth + 1);
    for (const keyword of ['anyOf', 'oneOf'] as const) {
      if (schema[keyword] !== undefined) return this.#branches(schema, keyword, path, depth);
    }
    if (schema.enum !== undefined || schema.const !== undefined) return this.#values(schema, path);
    return choice(this.#types(schema, path).map((type) => this.#typed(type, schema, path, depth)));
  }

  #refuse(schema: SchemaObject, path: Path): void {
    for (const [keyword, value] of Object.entries(schema)) {
      if (isUnsupported(keyword)) this.cannot(`'${keyword}' is not supported`, [...path, keyword]);
      if (keyword === 'uniqueItems' && value === true) {
        this.cannot("'uniqueItems' is not supported", [...path, keyword]);
      }
    }
  }

  /** What cannot be enforced is left to the model, if the schema is lenient. */
  cannot(message: string, path: Path): void {
    if (!this.lenient) throw new GrammarError(message, path);
  }

  #referring(schema: SchemaObject, path: Path, depth: number): Pattern {
    const { $ref, ...others } = schema;
    const target = this.#resolve($ref, [...path, '$ref']);
    if (saysNothing(others)) return this.#reference(this.#pointer($ref as string), target, depth);
    if (depth > 8 && isSchemaObject(target) && target.$ref === $ref) throw endless(path);
    return this.pattern(this.#both(others, target, path), path, depth + 1);
  }

  #reference(pointer: string, target: Schema, depth: number): Pattern {
    let name = this.#references.get(pointer);
    if (name === undefined) {
      name = `ref ${this.#references.size}`;
      this.#references.set(pointer, name);
      this.rules.set(name, nothing); // keeps its place while it is read
      this.rules.set(name, this.pattern(target, pathOf(pointer), depth + 1));
    }
    return rule(name);
  }

  /** To the place, where it is a name. */
  #pointer(reference: string): string {
    if (!reference.startsWith('#') || reference === '#' || reference.startsWith('#/')) return reference;
    this.#anchors ??= anchorsIn(this.root);
    return this.#anchors.get(decoded(reference.slice(1))) ?? reference;
  }

  #resolve(reference: unknown, path: Path): Schema {
    if (typeof reference !== 'string') throw new GrammarError('expected a text', path);
    if (!reference.startsWith('#')) {
      throw new GrammarError(`'${reference}' is not supported: only references within the schema are`, path);
    }
    const pointer = this.#pointer(reference);
    let target: unknown = pointer === '#' || pointer.startsWith('#/') ? this.root : undefined;
    for (const step of pathOf(pointer)) {
      const isThere = typeof target === 'object' && target !== null && Object.hasOwn(target, step);
      target = isThere ? (target as Record<string, unknown>)[step] : undefined;
    }
    if (!isSchema(target)) throw new GrammarError(`'${reference}' is not there`, path);
    return target;
  }

  #both(a: Schema, b: Schema, path: Path): Schema {
    return both(a, b, path, (message, at) => this.cannot(message, at));
  }

  #allOf({ allOf, ...others }: SchemaObject, path: Path): Schema {
    return this.#list(allOf, [...path, 'allOf']).reduce<Schema>(
      (merged, part, index) => this.#both(merged, this.#plain(part, [...path, 'allOf', index], 0), path),
      others,
    );
  }

  /** A schema whose keywords can be laid over those of another one. */
  #plain(schema: Schema, path: Path, depth: number): Schema {
    if (depth > 16) throw endless(path);
    if (!isSchemaObject(schema)) return schema;
    const { $ref, ...others } = schema;
    if ($ref === undefined) return schema.allOf === undefined ? schema : this.#allOf(schema, path);
    const target = this.#plain(this.#resolve($ref, [...path, '$ref']), path, depth + 1);
    return this.#both(target, others, path);
  }

  #branches(schema: SchemaObject, keyword: 'anyOf' | 'oneOf', path: Path, depth: number): Pattern {
    const { [keyword]: given, ...others } = schema;
    const branches = this.#list(given, [...path, keyword]);
    const resolved = branches.map((branch, index) => this.#plain(branch, [...path, keyword, index], 0));
    if (keyword === 'oneOf' && !areApart(resolved)) {
      this.cannot("what fits two schemas of 'oneOf' cannot be ruled out: use anyOf", [...path, keyword]);
    }
    return choice(
      branches.map((branch, index) => {
        const place = [...path, keyword, index];
        if (saysNothing(others)) return this.pattern(branch, place, depth + 1);
        return this.pattern(this.#both(others, resolved[index]!, place), place, depth + 1);
      }),
    );
  }

  #values(schema: SchemaObject, path: Path): Pattern {
    const keyword = schema.enum === undefined ? 'const' : 'enum';
    let values = keyword === 'enum' ? listOf(schema.enum, [...path, 'enum']) : [schema.const];
    if (schema.const !== undefined) values = values.filter((value) => same(value, schema.const));
    const { enum: _, const: __, type: ___, nullable: ____, ...others } = schema;
    const further = Object.keys(others).find(
      (name) => !saysNothing({ [name]: true }) && name !== 'uniqueItems',
    );
    if (further) this.cannot(`'${further}' beside '${keyword}' is not supported`, [...path, further]);
    const types = this.#types(schema, path);
    const fits = (value: unknown): boolean => {
      const type = typeOf(value);
      return types.includes(type) || (type === 'integer' && types.includes('number'));
    };
    return choice(values.filter(fits).map((value) => text(JSON.stringify(value))));
  }

  #types(schema: SchemaObject, path: Path): TypeName[] {
    if (schema.type === undefined) return typeNames.filter((type) => type !== 'integer');
    const given = Array.isArray(schema.type) ? (schema.type as unknown[]) : [schema.type];
    for (const type of given) {
      if (!typeNames.includes(type as TypeName)) {
        throw new GrammarError(`there is no type ${JSON.stringify(type)}`, [...path, 'type']);
      }
    }
    const types = (given as TypeName[]).filter((type) => type !== 'integer' || !given.includes('number'));
    return schema.nullable === true && !types.includes('null') ? [...types, 'null'] : types;
  }

  #typed(type: TypeName, schema: SchemaObject, path: Path, depth: number): Pattern {
    switch (type) {
      case 'null':
        return text('null');
      case 'boolean':
        return choice([text('true'), text('false')]);
      case 'string':
        return stringPattern(this, schema, path);
      case 'integer':
      case 'number':
        return numberPattern(this, type, schema, path);
      case 'array':
        return arrayPattern(this, schema, path, depth);
      case 'object':
        return objectPattern(this, schema, path, depth);
    }
  }

  /** A pattern that is written out many times is a rule, so that what is inside of it is there once. */
  shared(pattern: Pattern, times: number): Pattern {
    if (
      times === Number.POSITIVE_INFINITY ||
      times < 3 ||
      pattern.kind === 'rule' ||
      pattern.kind === 'text'
    ) {
      return pattern;
    }
    const name = `item ${this.rules.size}`;
    this.rules.set(name, pattern);
    return rule(name);
  }

  #list(value: unknown, path: Path): Schema[] {
    const list = listOf(value, path);
    if (list.length === 0) throw new GrammarError('expected at least one schema', path);
    list.forEach((schema, index) => {
      if (!isSchema(schema))
        throw new GrammarError('expected a schema: an object, true or false', [...path, index]);
    });
    return list as Schema[];
  }
}

function pathOf(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((step) => decoded(step).replaceAll('~1', '/').replaceAll('~0', '~'));
}

function decoded(step: string): string {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}

function endless(path: Path): GrammarError {
  return new GrammarError('the schema refers to itself without end', path);
}
