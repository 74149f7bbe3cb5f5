// The error of a request.

/** What the server answered instead of a result. */
export class ApiError extends Error {
  constructor(status, message, { type = "", code = "", param = "", retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { name: "ApiError", status, type, code, param, retryAfter });
  }
}
