CREATE TABLE note (
    id INT AUTO_INCREMENT PRIMARY KEY,
    text VARCHAR(200) NOT NULL,
    -- the release whose worker published it; visitors see published notes only
    published_by VARCHAR(64) NULL
);
