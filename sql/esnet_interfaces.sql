-- The collector's table: MySQL 5.6, 5.7 and 8.x, MariaDB 10.11. The collector creates it by itself when its user may;
-- otherwise: mysql --user=root --password esnet < sql/esnet_interfaces.sql
CREATE TABLE IF NOT EXISTS esnet_interfaces (
  id int NOT NULL AUTO_INCREMENT,
  -- the interface's resource, compared byte for byte: Ae1 and ae1 are two interfaces
  name varchar(128) NOT NULL,
  -- 1: in the source's list; 0: no longer
  status varchar(2) NOT NULL,
  -- times are milliseconds since the epoch, UTC, as 13 digits
  active_from varchar(13) NOT NULL,
  active_until varchar(13) DEFAULT NULL,
  -- every point of that record type before this time that the source had is on the bus; NULL: none yet
  errors_until varchar(13) DEFAULT NULL,
  discards_until varchar(13) DEFAULT NULL,
  traffic_until varchar(13) DEFAULT NULL,
  PRIMARY KEY (id, name)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
