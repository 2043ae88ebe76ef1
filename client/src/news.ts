// What the parts of the client tell each other, and the fields of the service's frames that the client reads.

import type { Position, RemovedAlert, State, ViralAlert, ViralAlertsError } from "./types.js";

/** Positions by region. */
export type Positions = Record<string, Position>;

/** An entry of a log: an alert or its removal. */
export type Logged = ViralAlert | (RemovedAlert & { everyone?: undefined });

/** The answer to a subscription, or to `GET /alerts`. */
export interface Answer {
  positions: Positions;
  alerts?: ViralAlert[];
  removed?: RemovedAlert[];
  not_recovered?: string[];
  /** False if alerts in answer to positions are missing, or if `ALL` has more regions than the answer can name. */
  recovered?: boolean;
  /** Cursor of the next page, and whether there is a next page. */
  after?: string;
  more?: boolean;
  reconnect_within_ms?: number;
  rotate_after_ms?: number;
  /** The Event API, if the service has one. */
  events?: Leg;
}

/** An Event API of AppSync, and for how many clients of a hundred it is meant. */
export interface Leg {
  url: string;
  host: string;
  share: number;
}

/** The answer to a keepalive. */
export interface Kept {
  /** Regions whose alerts the client misses, and regions that this connection is not subscribed to. */
  behind?: string[];
  missing?: string[];
}

/** What the leading tab tells all tabs, including itself, in order. Exactly one field is set. */
export interface News {
  /** The next alert of its region, or a removal, in its turn or later. */
  alert?: Logged;
  /** The alerts after `from`, up to and including `to`, are lost. */
  lost?: { region: string; from: Position; to: Position };
  /** The followed regions that have a beginning, those that the service refused, and all known positions. */
  ready?: { regions: string[]; refused: string[]; positions: Positions };
  state?: State | undefined;
  error?: ErrorNews;
}

/** A tab's request to the leader: follow `regions`, and deliver everything after `positions`. */
export interface Want {
  regions: string[];
  positions: Positions;
}

/** A `ViralAlertsError` as it travels between tabs. */
export type ErrorNews = ConstructorParameters<typeof ViralAlertsError>[0];
