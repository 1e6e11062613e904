PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE checks (
    digest TEXT NOT NULL, suite TEXT NOT NULL, test TEXT NOT NULL,
    verdict TEXT NOT NULL, message TEXT NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (digest, suite, test)
);
INSERT INTO "checks" VALUES('dddddddddddddddddddddddddddddddd','ssssssssssssssssssssssssssssssss','tests/test_a.py::test_one','passed','',0.5);
INSERT INTO "checks" VALUES('dddddddddddddddddddddddddddddddd','ssssssssssssssssssssssssssssssss','hidden/test_b.py::test_two','not gradable','not gradable: throttled: hot',0.25);
CREATE TABLE crashes (
    digest TEXT NOT NULL, suite TEXT NOT NULL, test TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (digest, suite, test)
);
CREATE TABLE leases (
    unit TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, started TEXT NOT NULL, since REAL NOT NULL
);
CREATE TABLE made (digest TEXT PRIMARY KEY, artifacts TEXT NOT NULL, notes TEXT NOT NULL);
CREATE TABLE results (
    student TEXT NOT NULL REFERENCES students, test TEXT NOT NULL REFERENCES tests,
    verdict TEXT NOT NULL DEFAULT 'pending', message TEXT NOT NULL DEFAULT '', seconds REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (student, test)
);
INSERT INTO "results" VALUES('ann','hidden/test_b.py::test_two','not gradable','not gradable: throttled: hot',0.25);
INSERT INTO "results" VALUES('bob','hidden/test_b.py::test_two','failed','it is no archive',0.0);
INSERT INTO "results" VALUES('ann','tests/test_a.py::test_one','passed','',0.5);
INSERT INTO "results" VALUES('bob','tests/test_a.py::test_one','failed','it is no archive',0.0);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "settings" VALUES('settings','{"submissions": "class", "suite": "suite", "labs": ["lab1"], "rubric": "RUBRIC", "pytest_options": []}');
INSERT INTO "settings" VALUES('frozen','frozen');
CREATE TABLE students (
    student TEXT PRIMARY KEY, source TEXT NOT NULL, submitted REAL NOT NULL,
    digest TEXT, notes TEXT NOT NULL DEFAULT '[]'
);
INSERT INTO "students" VALUES('ann','class/ann',1.0,'dddddddddddddddddddddddddddddddd','["left out: model.engine"]');
INSERT INTO "students" VALUES('bob','class/bob',2.0,NULL,'["it is no archive"]');
CREATE TABLE tests (
    test TEXT PRIMARY KEY, position INTEGER NOT NULL, lab TEXT NOT NULL, points REAL NOT NULL, hidden INTEGER NOT NULL
);
INSERT INTO "tests" VALUES('tests/test_a.py::test_one',0,'lab1',2.0,0);
INSERT INTO "tests" VALUES('hidden/test_b.py::test_two',1,'lab1',1.0,1);
CREATE INDEX students_digest ON students (digest);
COMMIT;
