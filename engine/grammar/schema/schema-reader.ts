import { GrammarError } from '../errors.js';
import * as json from '../json.js';
import { choice, nothing, type Pattern, repeat, rule, sequence, text } from '../pattern.js';
import { areApart } from './apart.js';
import { formats } from './formats.js';
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
import { type Bound, integers, numbers } from './numbers.js';
import { otherKey } from './other-key.js';
import { stringMatching } from './regex.js';

const mostDepth = 64;
const mostCount = 10_000;

/**
 * Turns a JSON schema into patterns. Properties come in the order of the schema; those it does not name only where
 * `additionalProperties` is given. Throws `GrammarError` with the place of what is not a schema or, unless it is
 * `lenient`, of a keyword that cannot be enforced.
 */
export class SchemaReader {
  /** Rules of what is referred to, by its place. */
  readonly #references = new Map<string, string>();

  constructor(
    private readonly root: unknown,
    private readonly lenient: boolean,
    /** Takes the rules that the pattern calls, but for those of JSON. */
    private readonly rules: Map<string, Pattern>,
  ) {}

  read(): Pattern {
    return this.#pattern(this.root, [], 0);
  }

  #pattern(schema: unknown, path: Path, depth: number): Pattern {
    if (depth > mostDepth) throw new GrammarError(`schemas are nested up to ${mostDepth} deep`, path);
    if (!isSchema(schema)) throw new GrammarError('expected a schema: an object, true or false', path);
    if (schema === false) return nothing;
    if (schema === true || saysNothing(schema)) return rule('value');
    this.#refuse(schema, path);
    if (schema.$ref !== undefined) return this.#referring(schema, path, depth);
    if (schema.allOf !== undefined) return this.#pattern(this.#allOf(schema, path), path, depth + 1);
    for (const keyword of ['anyOf', 'oneOf'] as const) {
      if (schema[keyword] !== undefined) return this.#branches(schema, keyword, path, depth);
    }
    if (schema.enum !== undefined || schema.const !== undefined) return this.#values(schema, path);
    return choice(this.#types(schema, path).map((type) => this.#typed(type, schema, path, depth)));
  }

  #refuse(schema: SchemaObject, path: Path): void {
    for (const [keyword, value] of Object.entries(schema)) {
      if (isUnsupported(keyword)) this.#cannot(`'${keyword}' is not supported`, [...path, keyword]);
      if (keyword === 'uniqueItems' && value === true) {
        this.#cannot("'uniqueItems' is not supported", [...path, keyword]);
      }
    }
  }

  /** What cannot be enforced is left to the model, if the schema is lenient. */
  #cannot(message: string, path: Path): void {
    if (!this.lenient) throw new GrammarError(message, path);
  }

  #referring(schema: SchemaObject, path: Path, depth: number): Pattern {
    const { $ref, ...others } = schema;
    const target = this.#resolve($ref, [...path, '$ref']);
    if (saysNothing(others)) return this.#reference($ref as string, target, depth);
    if (depth > 8 && isSchemaObject(target) && target.$ref === $ref) throw endless(path);
    return this.#pattern(both(others, target, path), path, depth + 1);
  }

  #reference(pointer: string, target: Schema, depth: number): Pattern {
    let name = this.#references.get(pointer);
    if (name === undefined) {
      name = `ref ${this.#references.size}`;
      this.#references.set(pointer, name);
      this.rules.set(name, nothing); // keeps its place while it is read
      this.rules.set(name, this.#pattern(target, pathOf(pointer), depth + 1));
    }
    return rule(name);
  }

  #resolve(pointer: unknown, path: Path): Schema {
    if (typeof pointer !== 'string') throw new GrammarError('expected a text', path);
    if (pointer !== '#' && !pointer.startsWith('#/')) {
      throw new GrammarError(`'${pointer}' is not supported: only references of the form #/… are`, path);
    }
    let target: unknown = this.root;
    for (const step of pathOf(pointer)) {
      const isThere = typeof target === 'object' && target !== null && Object.hasOwn(target, step);
      target = isThere ? (target as Record<string, unknown>)[step] : undefined;
    }
    if (!isSchema(target)) throw new GrammarError(`'${pointer}' is not there`, path);
    return target;
  }

  #allOf({ allOf, ...others }: SchemaObject, path: Path): Schema {
    return this.#list(allOf, [...path, 'allOf']).reduce<Schema>(
      (merged, part, index) => both(merged, this.#plain(part, [...path, 'allOf', index], 0), path),
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
    return both(target, others, path);
  }

  #branches(schema: SchemaObject, keyword: 'anyOf' | 'oneOf', path: Path, depth: number): Pattern {
    const { [keyword]: given, ...others } = schema;
    const branches = this.#list(given, [...path, keyword]);
    const resolved = branches.map((branch, index) => this.#plain(branch, [...path, keyword, index], 0));
    if (keyword === 'oneOf' && !areApart(resolved)) {
      this.#cannot("what fits two schemas of 'oneOf' cannot be ruled out: use anyOf", [...path, keyword]);
    }
    return choice(
      branches.map((branch, index) => {
        const place = [...path, keyword, index];
        if (saysNothing(others)) return this.#pattern(branch, place, depth + 1);
        return this.#pattern(both(others, resolved[index]!, place), place, depth + 1);
      }),
    );
  }

  #values(schema: SchemaObject, path: Path): Pattern {
    const keyword = schema.enum === undefined ? 'const' : 'enum';
    let values = keyword === 'enum' ? this.#array(schema.enum, [...path, 'enum']) : [schema.const];
    if (schema.const !== undefined) values = values.filter((value) => same(value, schema.const));
    const { enum: _, const: __, type: ___, nullable: ____, ...others } = schema;
    const further = Object.keys(others).find(
      (name) => !saysNothing({ [name]: true }) && name !== 'uniqueItems',
    );
    if (further) this.#cannot(`'${further}' beside '${keyword}' is not supported`, [...path, further]);
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
        return this.#string(schema, path);
      case 'integer':
      case 'number':
        return this.#number(type, schema, path);
      case 'array':
        return this.#items(schema, path, depth);
      case 'object':
        return this.#object(schema, path, depth);
    }
  }

  #string(schema: SchemaObject, path: Path): Pattern {
    const least = this.#count(schema, 'minLength', path) ?? 0;
    const most = this.#count(schema, 'maxLength', path) ?? Number.POSITIVE_INFINITY;
    const expression = this.#expression(schema, path);
    if (expression !== undefined) {
      if (least > 0 || most !== Number.POSITIVE_INFINITY) {
        this.#cannot("lengths beside 'pattern' or 'format' are not supported", path);
      }
      return sequence('"', expression, '"');
    }
    if (least > most) return nothing;
    if (least === 0 && most === Number.POSITIVE_INFINITY) return rule('string');
    return sequence('"', repeat(json.stringChar, least, most), '"');
  }

  #expression(schema: SchemaObject, path: Path): Pattern | undefined {
    const { pattern, format } = schema;
    let expression: string | undefined;
    if (format !== undefined) {
      expression = formats[String(format)];
      if (expression === undefined) {
        this.#cannot(`the format ${JSON.stringify(format)} is not supported`, [...path, 'format']);
      }
    }
    if (pattern === undefined) return expression === undefined ? undefined : stringMatching(expression);
    if (typeof pattern !== 'string') throw new GrammarError('expected a text', [...path, 'pattern']);
    if (expression !== undefined)
      this.#cannot("'pattern' beside 'format' is not supported", [...path, 'pattern']);
    try {
      return stringMatching(pattern);
    } catch (error) {
      if (!(error instanceof GrammarError)) throw error;
      this.#cannot(error.message, [...path, 'pattern']);
      return undefined;
    }
  }

  #number(type: 'integer' | 'number', schema: SchemaObject, path: Path): Pattern {
    const { multipleOf } = schema;
    const isWhole = multipleOf === 1;
    if (multipleOf !== undefined && !isWhole) {
      this.#cannot("'multipleOf' other than 1 is not supported", [...path, 'multipleOf']);
    }
    const bound = (exclusive: boolean, keyword: string, legacy: string): Bound | undefined => {
      const value = schema[keyword];
      // In draft 4 `exclusiveMinimum: true` went with `minimum`.
      if (value === undefined || typeof value === 'boolean') return undefined;
      if (typeof value !== 'number') throw new GrammarError('expected a number', [...path, keyword]);
      return { value, exclusive: exclusive || schema[legacy] === true };
    };
    const tighter = (a: Bound | undefined, b: Bound | undefined, sign: 1 | -1): Bound | undefined => {
      if (!a || !b) return a ?? b;
      const difference = sign * (a.value - b.value);
      return difference > 0 || (difference === 0 && a.exclusive) ? a : b;
    };
    const least = tighter(
      bound(false, 'minimum', 'exclusiveMinimum'),
      bound(true, 'exclusiveMinimum', ''),
      1,
    );
    const most = tighter(
      bound(false, 'maximum', 'exclusiveMaximum'),
      bound(true, 'exclusiveMaximum', ''),
      -1,
    );
    const bounds = { ...(least && { least }), ...(most && { most }) };
    return type === 'integer' || isWhole ? integers(bounds) : numbers(bounds);
  }

  #items(schema: SchemaObject, path: Path, depth: number): Pattern {
    const least = this.#count(schema, 'minItems', path) ?? 0;
    const most = this.#count(schema, 'maxItems', path) ?? Number.POSITIVE_INFINITY;
    // Before 2020-12 an array of items was what `prefixItems` is now.
    const isOld = Array.isArray(schema.items);
    const given = isOld ? schema.items : (schema.prefixItems ?? []);
    const heads = this.#array(given, [...path, isOld ? 'items' : 'prefixItems']).slice(0, most);
    const patterns = heads.map((head, index) =>
      this.#pattern(head, [...path, 'prefixItems', index], depth + 1),
    );
    // An item that nothing fits ends the array before it.
    const impossible = patterns.findIndex(isNothing);
    const possible = impossible < 0 ? patterns : patterns.slice(0, impossible);
    const rest = isOld ? true : (schema.items ?? true);
    const other =
      impossible >= 0 ? nothing : this.#shared(this.#pattern(rest, [...path, 'items'], depth + 1), most);
    const further = isNothing(other) ? 0 : Math.max(0, most - possible.length);
    const missing = Math.max(0, least - possible.length);
    if (missing > further || least > most) return nothing;
    return json.array({
      gaps: false,
      items: possible.map((pattern, index) => ({ pattern, required: index < least })),
      ...(further > 0 && { rest: { pattern: other, least: missing, most: further } }),
      filled: false,
    });
  }

  /** A pattern that is written out many times is a rule, so that what is inside of it is there once. */
  #shared(pattern: Pattern, times: number): Pattern {
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

  #object(schema: SchemaObject, path: Path, depth: number): Pattern {
    const properties = schema.properties ?? {};
    if (!isSchemaObject(properties)) throw new GrammarError('expected an object', [...path, 'properties']);
    const required = this.#array(schema.required ?? [], [...path, 'required']) as string[];
    const { additionalProperties } = schema;
    const others = additionalProperties ?? Object.keys(properties).length === 0;
    const otherAt = [...path, 'additionalProperties'];
    const items: { pattern: Pattern; required: boolean }[] = [];
    const names = [...new Set([...Object.keys(properties), ...required])];
    for (const name of names) {
      if (typeof name !== 'string') throw new GrammarError('expected texts', [...path, 'required']);
      const isNamed = Object.hasOwn(properties, name);
      const place = isNamed ? [...path, 'properties', name] : otherAt;
      const value = this.#pattern(
        isNamed ? properties[name] : (additionalProperties ?? true),
        place,
        depth + 1,
      );
      const isRequired = required.includes(name);
      if (isNothing(value) && isRequired) return nothing;
      if (!isNothing(value)) {
        items.push({ pattern: json.member(text(JSON.stringify(name)), value), required: isRequired });
      }
    }
    const least = this.#count(schema, 'minProperties', path) ?? 0;
    const most = this.#count(schema, 'maxProperties', path) ?? Number.POSITIVE_INFINITY;
    if (least > Math.max(required.length, 1)) {
      this.#cannot("'minProperties' beyond the required ones is not supported", [...path, 'minProperties']);
    }
    if (most < items.length) {
      if (required.length > most) return nothing;
      this.#cannot("'maxProperties' below the properties is not supported", [...path, 'maxProperties']);
    }
    const value = this.#pattern(others, otherAt, depth + 1);
    const further = isNothing(value) ? 0 : Math.max(0, most - items.length);
    const filled = least > 0;
    if (filled && items.length === 0 && further === 0) return nothing;
    return json.object({
      gaps: true,
      items,
      filled,
      ...(further > 0 && {
        rest: {
          pattern: this.#shared(json.member(otherKey(names), value), further),
          least: 0,
          most: further,
        },
      }),
    });
  }

  #count(schema: SchemaObject, keyword: string, path: Path): number | undefined {
    const value = schema[keyword];
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) {
      throw new GrammarError('expected a whole number from 0 on', [...path, keyword]);
    }
    if (value <= mostCount) return value;
    if (keyword.startsWith('max')) return undefined; // further than any answer goes
    throw new GrammarError(`at most ${mostCount} is supported`, [...path, keyword]);
  }

  #array(value: unknown, path: Path): readonly unknown[] {
    if (!Array.isArray(value)) throw new GrammarError('expected an array', path);
    return value;
  }

  #list(value: unknown, path: Path): Schema[] {
    const list = this.#array(value, path);
    if (list.length === 0) throw new GrammarError('expected at least one schema', path);
    list.forEach((schema, index) => {
      if (!isSchema(schema))
        throw new GrammarError('expected a schema: an object, true or false', [...path, index]);
    });
    return list as Schema[];
  }
}

function isNothing(pattern: Pattern): boolean {
  return pattern.kind === 'choice' && pattern.options.every(isNothing);
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
