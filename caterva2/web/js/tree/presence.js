// Whether the publisher of a root is there, in words.

import { timeAgo } from "../times.js";

/**
 * @param {any} about what GET /api/roots says of a root
 * @returns {{state: "online"|"offline"|"stale"|"own", word: string, sentence: string}}
 */
export function presence({ name = "", status, freshness, age }) {
  if (name.startsWith("@")) return { state: "own", word: "", sentence: OWN[name] ?? "Kept by this subscriber" };
  const since = age === null || age === undefined ? "" : ` since ${timeAgo(age)}`;
  if (status !== "online") return { state: "offline", word: "offline", sentence: `Its publisher has been offline${since}; what was read before is still here` };
  if (freshness === "stale") return { state: "stale", word: "stale", sentence: `Its publisher has not answered${since}: what is shown may be old` };
  if (freshness === "revalidated") return { state: "online", word: "online", sentence: "Online; changes are asked for, not told" };
  if (freshness === "live") return { state: "online", word: "live", sentence: "Online; changes show as they happen" };
  return { state: "online", word: "online", sentence: "Online" };
}

const OWN = {
  "@public": "Everybody reads it, users write",
  "@shared": "For all users of this subscriber",
  "@personal": "For you alone",
};
