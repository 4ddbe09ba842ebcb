/** A storage in memory, as Amplify's key-value storages are. */
export function memoryStorage() {
  const stored = new Map();
  return {
    getItem: async (key) => stored.get(key) ?? null,
    setItem: async (key, value) => void stored.set(key, value),
    removeItem: async (key) => void stored.delete(key),
    clear: async () => stored.clear(),
  };
}
