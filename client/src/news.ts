// What passes between the parts of the client, and the frames of the service as far as they are read.

import type { Position, RemovedAlert, State, ViralAlert, ViralAlertsError } from "./types.js";

/** Positions by region. */
export type Positions = Record<string, Position>;

/** What a log has at a number: an alert, or that it was taken back. */
export type Logged = ViralAlert | (RemovedAlert & { everyone?: undefined });

/** The answer to a subscription, or to `GET /alerts`. */
export interface Answer {
  positions: Positions;
  alerts?: ViralAlert[];
  removed?: RemovedAlert[];
  not_recovered?: string[];
  /** Cursor of the next page, and whether there is one. */
  after?: string;
  more?: boolean;
  reconnect_within_ms?: number;
  rotate_after_ms?: number;
}

/** The answer to a keepalive. */
export interface Kept {
  /** Regions of which the client lacks something, and those to which this connection is not subscribed. */
  behind?: string[];
  missing?: string[];
}

/** What the leading tab tells all tabs, itself among them. One of the fields is there; they arrive in order. */
export interface News {
  /** The next alert of its region, or that one was taken back: in its turn, or later. */
  alert?: Logged;
  /** What follows `from`, up to and with `to`, is lost. */
  lost?: { region: string; from: Position; to: Position };
  /** Regions that are followed, with the positions of all that are known. */
  ready?: { regions: string[]; positions: Positions };
  state?: State;
  error?: ErrorNews;
}

/** What a tab asks of the leader: that it follows `regions`, and delivers everything after `positions`. */
export interface Want {
  regions: string[];
  positions: Positions;
}

/** A `ViralAlertsError` as it travels between tabs. */
export type ErrorNews = ConstructorParameters<typeof ViralAlertsError>[0];
