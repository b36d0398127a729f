-- The ledger, version 1. One row in `file` for each version of each file ever seen.
-- Times are milliseconds since 1970 in UTC. Paths are the operating system's own bytes.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE run (
    id          INTEGER PRIMARY KEY,
    folder      BLOB    NOT NULL,
    pid         INTEGER NOT NULL,
    version     TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,            -- NULL: still running, or killed
    summary     TEXT                -- JSON: the counts that were shown at the end
);

CREATE TABLE folder (
    id         INTEGER PRIMARY KEY,
    path       BLOB NOT NULL UNIQUE, -- absolute
    typed_path BLOB NOT NULL         -- as the user last named it
);

CREATE TABLE camera (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE job (
    id         INTEGER PRIMARY KEY,
    job_id     TEXT,                -- NULL until the service has answered
    state      TEXT    NOT NULL CHECK (state IN ('creating', 'created', 'orphaned')),
    item_count INTEGER NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE shard (
    job           INTEGER NOT NULL REFERENCES job,
    number        INTEGER NOT NULL, -- the order in which files fill them
    shard_id      TEXT    NOT NULL,
    item_count    INTEGER NOT NULL,
    upload_url    TEXT    NOT NULL,
    registered_at INTEGER,          -- NULL: not yet, or again due because more was delivered
    last_error    TEXT,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;

CREATE TABLE file (
    id           INTEGER PRIMARY KEY,
    folder       INTEGER NOT NULL REFERENCES folder,
    name         BLOB    NOT NULL,      -- empty for a folder that could not be read
    size_bytes   INTEGER NOT NULL,
    mtime_ns     INTEGER NOT NULL,
    is_current   INTEGER NOT NULL DEFAULT 1, -- 0: the path now holds other content
    state        TEXT    NOT NULL CHECK (state IN (
                     'found', 'assigned', 'uploading', 'uploaded', 'duplicate', 'skipped', 'failed')),
    reason       TEXT,               -- why skipped or failed: a code of model.Reason
    detail       TEXT,               -- the same in words, or the last trouble of a pending file
    reading      TEXT    NOT NULL,   -- fingerprint of the options that read the path
    camera       INTEGER REFERENCES camera,
    starts_at    INTEGER,
    duration_s   REAL,
    lat          REAL,
    lng          REAL,
    time_source  TEXT,
    video_codec  TEXT,
    warnings     TEXT,               -- JSON list
    sha1         BLOB,
    sample       BLOB,               -- content.sample_digest: recognises a moved file
    duplicate_of INTEGER REFERENCES file,
    job          INTEGER REFERENCES job,
    shard        INTEGER,
    attempts     INTEGER NOT NULL DEFAULT 0,
    found_at     INTEGER NOT NULL,
    uploaded_at  INTEGER,
    CHECK (state IN ('skipped', 'failed') OR (camera IS NOT NULL AND starts_at IS NOT NULL)),
    CHECK (state != 'uploaded' OR (sha1 IS NOT NULL AND uploaded_at IS NOT NULL)),
    CHECK (state NOT IN ('skipped', 'failed') OR reason IS NOT NULL)
);

CREATE UNIQUE INDEX file_by_path    ON file (folder, name) WHERE is_current;
CREATE        INDEX file_retired    ON file (folder, name) WHERE NOT is_current;
CREATE        INDEX file_by_content ON file (camera, size_bytes, sha1) WHERE camera IS NOT NULL;
CREATE        INDEX file_by_stamp   ON file (size_bytes, mtime_ns, name);
CREATE        INDEX file_by_shard   ON file (job, shard) WHERE job IS NOT NULL;
CREATE        INDEX file_pending    ON file (state, job, shard) WHERE state IN ('found', 'assigned', 'uploading');
CREATE        INDEX file_copies     ON file (duplicate_of) WHERE duplicate_of IS NOT NULL;

-- What happened to a file beyond the ordinary course, for `why`.
CREATE TABLE history (
    id   INTEGER PRIMARY KEY,
    file INTEGER NOT NULL REFERENCES file,
    at   INTEGER NOT NULL,
    what TEXT    NOT NULL
);

CREATE INDEX history_by_file ON history (file);
