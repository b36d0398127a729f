-- Version 2: what watching folders adds.

ALTER TABLE run ADD COLUMN is_watch INTEGER NOT NULL DEFAULT 0;

-- What the service told of a camera when it was registered: a watch that starts without the internet can go on.
ALTER TABLE camera ADD COLUMN camera_id TEXT;
ALTER TABLE camera ADD COLUMN config TEXT;     -- JSON

-- Delivered files whose job is still to be asked for: a watch sends first, and asks for the job of
-- a whole batch later. `job` is set while the service is being asked.
CREATE TABLE awaiting_job (
    file INTEGER PRIMARY KEY REFERENCES file,
    job  INTEGER REFERENCES job
);

-- The folders of the watch that is running, or that ran last.
CREATE TABLE watched_folder (
    path       BLOB PRIMARY KEY,    -- absolute
    state      TEXT NOT NULL,       -- a code of watch_notes.FolderState
    detail     TEXT NOT NULL,       -- the same in words, or ""
    since      INTEGER NOT NULL,
    looked_at  INTEGER              -- when it was last looked through from end to end
) WITHOUT ROWID;

-- Files in them that have not landed whole: what is being waited for.
CREATE TABLE landing (
    path       BLOB PRIMARY KEY,
    folder     BLOB NOT NULL,       -- the watched folder
    size_bytes INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    waited_s   REAL NOT NULL,       -- how long it has been unchanged, and not whole
    noted_at   INTEGER NOT NULL,
    why        TEXT NOT NULL
) WITHOUT ROWID;
