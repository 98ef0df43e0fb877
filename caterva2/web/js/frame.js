// The bytes of a small Blosc2 frame, which a subscriber sends uncompressed: one stored chunk behind the header.

const HEADER_LENGTH = 11;
const STORED = 2;
const CHUNK_HEADER = 32;

/**
 * @param {ArrayBuffer} buffer a contiguous frame with at most one chunk
 * @returns {ArrayBuffer} what it holds
 * @throws {TypeError} if it is compressed, or no frame
 */
export function storedBytes(buffer) {
  const view = new DataView(buffer);
  // A msgpack integer, so big-endian; chunks are little-endian.
  const start = buffer.byteLength > 16 ? view.getInt32(HEADER_LENGTH, false) : 0;
  if (start < 16 || start + CHUNK_HEADER > buffer.byteLength)
    throw new TypeError("this is no Blosc2 frame with a chunk");
  const nbytes = view.getInt32(start + 4, true);
  const end = start + CHUNK_HEADER + nbytes;
  if (!(view.getUint8(start + 2) & STORED) || nbytes < 0 || end > buffer.byteLength) {
    throw new TypeError("this frame is compressed: download it to look into it");
  }
  return buffer.slice(start + CHUNK_HEADER, end);
}
